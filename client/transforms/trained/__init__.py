"""Transforms that train the encoder to leak less."""
