"""The testbed: plan, launch, collect, score, report."""
