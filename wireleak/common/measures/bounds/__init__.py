"""Bounds on what any attacker can reach, and privacy accounting."""
