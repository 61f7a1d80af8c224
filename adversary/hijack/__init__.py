"""The malicious server: it stands where the head should, and trains the clients' encoders for itself."""
