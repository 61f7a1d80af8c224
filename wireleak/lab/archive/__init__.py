"""Runs on this disk: list, remove and compare them."""
