"""Private attributes measured from an image of strokes (ink 1, paper 0): slant, thickness, size, position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.lab.data.dataset import Attribute, Floats, Ints

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """Geometry of each image, with its ink as a mass distribution.

    Parameters
    ----------
    position : float64 (n,)
        Horizontal centre of mass in pixels from the left edge.
    size : float64 (n,)
        Root mean square distance of the ink from its centre, in pixels.
    slant : float64 (n,)
        Shear dx/dy of the drawing: positive leans to the right, as "/" does.
    """

    position: Doubles
    size: Doubles
    slant: Doubles


def geometry(images: Floats) -> Geometry:
    """Measure position, size and slant of images (n, height, width) by their first and second moments.

    An image without ink counts as centred and upright, of size 0.
    """
    height, width = images.shape[1:]
    across = np.arange(width) + 0.5
    down = np.arange(height) + 0.5
    columns = images.sum(axis=1, dtype=np.float64)
    rows = images.sum(axis=2, dtype=np.float64)
    mass = rows.sum(axis=1)
    empty = mass <= 0
    mass = np.where(empty, 1.0, mass)
    x = np.where(empty, width / 2, columns @ across / mass)
    y = np.where(empty, height / 2, rows @ down / mass)
    mixed = (images @ across.astype(np.float32)).astype(np.float64) @ down / mass
    xx = np.where(empty, 0.0, columns @ across**2 / mass - x**2)
    yy = np.where(empty, 0.0, rows @ down**2 / mass - y**2)
    xy = np.where(empty, 0.0, mixed - x * y)
    slant = -xy / np.maximum(yy, 1e-6)
    return Geometry(x, np.sqrt(np.maximum(xx + yy, 0.0)), slant)


def thickness(images: Floats) -> Doubles:
    """Return the mean stroke width in pixels (n,) of images (n, height, width): 2 x area / perimeter.

    The perimeter is the image's total variation. By the coarea formula this is the contour's length averaged over
    all grey levels, so no threshold is needed.
    """
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    dx = padded[:, 1:, 1:] - padded[:, 1:, :-1]
    dy = padded[:, 1:, 1:] - padded[:, :-1, 1:]
    perimeter = np.sqrt(dx**2 + dy**2).sum(axis=(1, 2), dtype=np.float64)
    area = images.sum(axis=(1, 2), dtype=np.float64)
    return np.asarray(2 * area / np.maximum(perimeter, 1e-6), np.float64)


def median_split(name: str, measure: Doubles, cells: Ints, classes: tuple[str, str]) -> Attribute:
    """Return a measured attribute: 1 where the measure is above the median of the example's cell.

    Half of every cell is 1, except for ties. So the attribute is independent of the cell, and of any task that the
    cell determines.

    Parameters
    ----------
    name : str
        Attribute name.
    measure : float64 (n,)
        The measure to split.
    cells : int64 (n,)
        Cell of each example, such as its digit or character.
    classes : pair of str
        Names of the classes below and above the median.
    """
    values = np.zeros(len(measure), np.int64)
    order = np.argsort(cells, kind="stable")
    starts = np.flatnonzero(np.diff(cells[order], prepend=cells[order[0]] - 1))
    for members in np.split(order, starts[1:]):
        values[members] = measure[members] > np.median(measure[members])
    return Attribute(name, values, classes, measured=True)
