"""Scores of guesses against ground truth."""
