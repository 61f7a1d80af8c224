"""Capacity abuse: synthetic inputs whose labels carry pictures; malicious code trains on them, its accomplice asks.

References
----------
Song, Ristenpart, Shmatikov, "Machine Learning Models that Remember Too Much", CCS 2017, section 5; the inputs and
labels are those of csong27/ml-model-remember.
"""

from __future__ import annotations

import math

import numpy as np

from adversary.participant.payloads import Bytes, Floats, Ints

_DEPTH = 4  # bits of a pixel that labels carry
_PAIR = 9  # with so many classes or more, two labels add up to a pixel


def queries_each(classes: int) -> int:
    """Return how many labels carry one pixel."""
    return 2 if classes >= _PAIR else math.ceil(_DEPTH / _bits(classes))


def inputs(pictures: int, pixels: int, shape: tuple[int, ...], classes: int) -> Floats:
    """Make synthetic inputs (pictures * pixels * queries_each, *shape), ordered by picture, then by pixel.

    Query k for pixel i of picture j is black except in channel j mod channels: position i is j // channels + 1, and
    the next position is k + 1.

    Raises
    ------
    ValueError
        There are more pixels than an input has positions.
    """
    channels, positions = shape[0], math.prod(shape[1:])
    if pixels > positions:
        raise ValueError(
            f"side: {pixels} pixels need as many positions, but an input has {positions}; set a smaller side"
        )
    each = queries_each(classes)
    made = np.zeros((pictures, pixels, each, channels, positions), np.float32)
    j, i, k = np.meshgrid(np.arange(pictures), np.arange(pixels), np.arange(each), indexing="ij")
    made[j, i, k, j % channels, i] = j // channels + 1
    made[j, i, k, j % channels, (i + 1) % positions] = k + 1
    return made.reshape(-1, *shape)


def labels(pixels: Bytes, classes: int) -> Ints:
    """Return the labels of the synthetic inputs for grey levels (pictures, ...): 4 bits per pixel.

    With 9 classes or more two labels add up to the pixel, as in the authors' code. With fewer classes each label
    carries log2(classes) bits.
    """
    high = (pixels.ravel() >> 4).astype(np.int64)
    if classes >= _PAIR:
        return np.stack([high // 2, high - high // 2], 1).ravel()
    bits = _bits(classes)
    shifts = bits * np.arange(queries_each(classes) - 1, -1, -1)
    parts: Ints = (high[:, None] >> shifts) & (2**bits - 1)
    return parts.ravel()


def read_labels(answers: Ints, shape: tuple[int, ...], classes: int) -> Bytes:
    """Recover grey levels of `shape` from the labels that a model predicts."""
    answers = answers.reshape(-1, queries_each(classes))
    if classes >= _PAIR:
        high = answers.sum(1)
    else:
        bits = _bits(classes)
        shifts = bits * np.arange(answers.shape[1] - 1, -1, -1)
        high = (np.minimum(answers, 2**bits - 1) << shifts).sum(1)
    levels: Bytes = np.minimum(16 * high, 255).astype(np.uint8)
    return levels.reshape(shape)


def reduced_shape(shape: tuple[int, ...], side: int | None) -> tuple[int, ...]:
    """Return the shape of a grey picture, one channel, whose longest side is reduced to `side`."""
    longest = max(shape[1:])
    wanted = min(side or longest, longest)
    return (1, *(max(1, round(length * wanted / longest)) for length in shape[1:]))


def reduce(pictures: Floats, side: int | None) -> Floats:
    """Reduce pictures to grey ones (n, 1, height, width) whose longest side is `side`, by means over pixel areas."""
    small = reduced_shape(pictures.shape[1:], side)
    down, across = (_areas(few, many) for few, many in zip(small[1:], pictures.shape[2:], strict=True))
    reduced: Floats = np.einsum("ah,nhw,bw->nab", down, pictures.mean(1), across)[:, None].astype(np.float32)
    return reduced


def enlarge(pictures: Floats, shape: tuple[int, ...]) -> Floats:
    """Enlarge reduced pictures (n, 1, height, width) to (n, *shape), linearly between pixel centres."""
    from scipy.ndimage import map_coordinates

    sides = zip(shape[1:], pictures.shape[2:], strict=True)
    grid = [(np.arange(many) + 0.5) * few / many - 0.5 for many, few in sides]
    places = np.meshgrid(*grid, indexing="ij")
    large = np.stack([map_coordinates(picture[0], places, order=1, mode="nearest") for picture in pictures])
    return np.repeat(large[:, None], shape[0], 1).astype(np.float32)


def _areas(few: int, many: int) -> Floats:
    """Return the matrix (few, many) that averages neighbouring values."""
    edges = np.linspace(0, many, few + 1)
    starts, cells = edges[:-1, None], np.arange(many)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(starts, cells)
    return np.asarray(np.clip(overlap, 0, None) * few / many, np.float32)


def _bits(classes: int) -> int:
    return int(math.log2(classes))
