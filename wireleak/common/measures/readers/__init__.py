"""Readers of activations and gradients: how much a layer reveals about a label or an input."""
