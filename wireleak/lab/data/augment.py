"""Small random affine changes of images: the attacker's extra queries from the same few originals."""

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
        Decides everything.
    shift : float
        At most, in pixels, along each axis.
    rotation : float
        At most, in degrees, either way.
    scale : pair of float
        Least and most enlargement.
    shear : float
        At most, dx/dy, either way.

    Returns
    -------
    float32 (n, channels, height, width)
        In [0, 1], bilinear, the border's pixels continued outwards.

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
    # grid_sample asks where each output pixel comes from, so this is the inverse map, in units of half the image.
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
