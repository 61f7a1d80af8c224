"""Audit a user's own network at every cut, and try defences on it."""
