"""Targets: each owns its prior, baselines, ground truth, scorer and picture."""
