"""Transforms of activations before a device sends them, one file each: defences and malicious code."""
