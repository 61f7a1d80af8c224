"""Transforms that train the encoder against a leak."""
