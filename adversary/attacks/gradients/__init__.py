"""Attacks that rebuild inputs from gradients."""
