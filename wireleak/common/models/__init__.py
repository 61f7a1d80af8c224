"""Networks, and the cuts that divide each into encoder and head."""

from wireleak.common.models.config import ModelConfig
from wireleak.common.models.networks import Network, build, names
from wireleak.common.models.weights import load_arrays, load_weights, save_arrays, save_weights

__all__ = ["ModelConfig", "Network", "build", "load_arrays", "load_weights", "names", "save_arrays", "save_weights"]
