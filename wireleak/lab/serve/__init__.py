"""Serve a trained network live: head, tap, and for browsers the gateway and a live eavesdropper."""
