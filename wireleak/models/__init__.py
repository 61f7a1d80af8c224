"""Networks, and where each is cut into encoder | head."""

from wireleak.models.config import ModelConfig
from wireleak.models.networks import Network, build, names
from wireleak.models.weights import load_arrays, load_weights, save_arrays, save_weights

__all__ = ["ModelConfig", "Network", "build", "load_arrays", "load_weights", "names", "save_arrays", "save_weights"]
