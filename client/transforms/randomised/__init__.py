"""Transforms that add randomness to activations."""
