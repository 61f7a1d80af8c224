"""Attacks on model updates: properties, membership, and which layer leaks."""
