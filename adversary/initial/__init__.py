"""What a malicious server sends first."""
