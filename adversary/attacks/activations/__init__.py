"""Attacks on captured activations."""
