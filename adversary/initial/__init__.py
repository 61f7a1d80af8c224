"""The first global models that a malicious server can send."""
