"""An exported encoder on the device: its manifest, its computation, and the transforms of its activations."""
