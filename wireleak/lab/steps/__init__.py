"""The steps of a run: plan, capture, attack, score, bounds, collect."""
