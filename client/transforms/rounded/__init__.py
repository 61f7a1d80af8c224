"""Transforms that change the precision of activations, and the malicious one that hides data in low bits."""
