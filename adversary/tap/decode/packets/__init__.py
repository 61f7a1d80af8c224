"""Decoders of capture files: packets, encapsulations, fragments and TCP segments."""
