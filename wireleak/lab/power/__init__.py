"""The leaks that a study can show: its design, and simulated runs of it."""
