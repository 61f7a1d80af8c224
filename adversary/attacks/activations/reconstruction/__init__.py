"""Attacks that rebuild inputs from captured activations."""
