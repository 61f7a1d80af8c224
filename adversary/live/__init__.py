"""The live eavesdropper follows a growing capture, and rebuilds each input as soon as it crossed the wire."""
