"""Whoever listens: the tap, the wire decoders, the attacks."""
