"""Small random affine changes of images, with which an attacker makes more queries from few originals."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from wireleak.lab.data.dataset import Floats

_CHUNK = 1024


def augment(
    x: Floats,
    rng: np.random.Generator,
    *,
    shift: float = 2.0,
    rotation: float = 10.0,
    scale: tuple[float, float] = (0.9, 1.1),
    shear: float = 0.1,
) -> Floats:
    """Shift, turn, scale and shear each image a little, all drawn uniformly from `rng`.

    Parameters
    ----------
    x : float32 (n, channels, height, width)
        In [0, 1].
    rng : numpy.random.Generator
        Source of all random draws.
    shift : float
        Largest shift in pixels along each axis.
    rotation : float
        Largest rotation in degrees, either way.
    scale : pair of float
        Smallest and largest scale.
    shear : float
        Largest shear dx/dy, either way.

    Returns
    -------
    float32 (n, channels, height, width)
        In [0, 1]: bilinear interpolation, border pixels repeated outwards.

    Raises
    ------
    ValueError
        `x` does not hold images.
    """
    if x.ndim != 4:
        raise ValueError(f"augment: x must be images (n, channels, height, width), not {x.shape}")
    n, _, height, width = x.shape
    half = np.array([width / 2, height / 2])
    turn = np.deg2rad(rng.uniform(-rotation, rotation, n))
    size = rng.uniform(*scale, n)
    lean = rng.uniform(-shear, shear, n)
    move = rng.uniform(-shift, shift, (n, 2))
    # grid_sample needs the source of each output pixel: the inverse map, in units of half the image.
    cos, sin = np.cos(turn) / size, np.sin(turn) / size
    linear = np.stack([np.stack([cos, cos * lean + sin], 1), np.stack([-sin, cos - sin * lean], 1)], 1)
    theta = np.concatenate([linear * half[None, None] / half[None, :, None], (move / half)[..., None]], 2)
    out = np.empty(x.shape, np.float32)
    for start in range(0, n, _CHUNK):
        piece = torch.from_numpy(np.ascontiguousarray(x[start : start + _CHUNK], np.float32))
        where = torch.from_numpy(theta[start : start + _CHUNK].astype(np.float32))
        grid = functional.affine_grid(where, list(piece.shape), align_corners=False)
        sampled = functional.grid_sample(piece, grid, padding_mode="border", align_corners=False)
        out[start : start + _CHUNK] = sampled.numpy()
    return np.clip(out, 0.0, 1.0)
