"""Intervals, permutations, and statistics of language models and updates."""
