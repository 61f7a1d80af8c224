"""Attacks, one file a family: each declares its threat model, fits on captures and guesses."""
