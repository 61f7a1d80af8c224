"""How much a malicious participant changed the shared model's features."""
