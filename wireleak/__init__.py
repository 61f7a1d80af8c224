"""wireleak: what an eavesdropper learns from a split or federated model, measured at the wire."""

__version__ = "0.1.0"
