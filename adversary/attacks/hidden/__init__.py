"""Attacks that read hidden or planted data out of models and activations."""
