"""What every attack shares: its threat model, its knowledge, its baselines, and the run."""
