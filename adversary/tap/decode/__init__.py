"""Decoders: captures to packets, streams, messages and tensors."""
