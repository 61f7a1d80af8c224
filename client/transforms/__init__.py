"""What a device does to activations before it sends them, one file each: defences, and malicious code."""
