"""Defences that a client adds, one file each."""
