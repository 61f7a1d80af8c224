"""Common parts of all attacks: threat model, knowledge, baselines, and the run."""
