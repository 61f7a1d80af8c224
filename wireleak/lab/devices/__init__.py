"""Real and emulated devices: their encoders, exported for programs without torch."""
