"""The quantities that are measured in each layer of an update, as columns of a map or a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wireleak.common.words import decimal


@dataclass(frozen=True)
class LayerQuantity:
    """One measured quantity, a column of the map.

    Parameters
    ----------
    name : str
        Key in a profile.
    heading, unit : str
        Two short lines of the column's head.
    meaning : str
        Explanation for readers who do not know the quantity.
    null : str or None
        Key of the null that is subtracted.
    floor : float
        Value without any leakage, white in the map.
    over : str
        Text for that which a value exceeds.
    """

    name: str
    heading: str
    unit: str
    meaning: str
    null: str | None = None
    floor: float = 0.0
    over: str = "its null"

    def of(self, layer: Mapping[str, Any]) -> float:
        """Return a layer's value minus its null; NaN where it was not measured.

        A null below 0 means that a reader of noise did worse than no reader. It is not subtracted, because the result
        could exceed the label's entropy.
        """
        value, *less = (number(layer.get(key)) for key in (self.name, self.null) if key)
        return value - sum(null if math.isnan(null) else max(null, 0.0) for null in less)

    def write(self, value: float) -> str:
        """Return a value as text."""
        if not math.isfinite(value):
            return "–"
        places = ".2g" if "sensitivity" in self.name else ".4f" if "mse" in self.name else ".2f"
        return decimal(value, places)


ORIGINAL = LayerQuantity(
    *("original", "rebuilt", "R²"),
    "share of the variance of the mean input's 10 leading components that a linear reader of the layer's gradient "
    "predicts, minus the same for inputs in random order",
    null="original_null",
)
INVERTED = LayerQuantity(
    *("inverted", "inverted", "dB"),
    "PSNR of inputs that a search rebuilds from this layer's gradient, above that of the mean input",
    null="inverted_null",
    over="the mean input",
)
MATCH = LayerQuantity(
    *("inverted_match", "gradient", "matched"),
    "cosine between this layer's gradient and that of the inputs that the search found; below 0.99 the search failed, "
    "and the figures are a lower bound",
)
LATENT = LayerQuantity(
    *("v_information", "V-info", "bits"),
    "V-information about the property: bits that simple readers extract from the layer's gradient, minus the same "
    "for the property in random order",
    null="v_null",
)
AUC = LayerQuantity("auc", "attack", "AUC", "attack on this layer only, on held-out examples; 0.5 is chance", floor=0.5)
GROUPS = (
    (
        "of the input",
        (
            ORIGINAL,
            INVERTED,
            LayerQuantity(
                *("inverted_ssim", "inverted", "SSIM"),
                "structural similarity of the inputs that the search rebuilds from this layer's gradient",
            ),
            LayerQuantity(
                *("sensitivity_input", "sens. to", "input"),
                "norm of the gradient's derivative by the input, over the gradient's norm and the root of its size",
            ),
        ),
    ),
    (
        "of the property",
        (
            LATENT,
            LayerQuantity(
                *("v_equalised", "at 512", "bits"),
                "V-information after a random projection of wider layers to 512 numbers",
                null="v_equalised_null",
            ),
            LayerQuantity(
                *("subspace", "subspace", "dist."),
                "distance between the subspaces of gradients with and without the property, minus the distance "
                "between two halves of the latter",
                null="subspace_null",
            ),
            LayerQuantity(
                *("sensitivity", "sens. to", "output"),
                "norm of the gradient's derivative by the output, over its range and the root of the layer's size",
            ),
            AUC,
        ),
    ),
)
# Details of the search, in the tables and not in the map.
SEARCH = (
    LayerQuantity("inverted_psnr", "inverted", "PSNR", "mean PSNR of the rebuilt inputs, in dB"),
    LayerQuantity("inverted_mean", "mean input", "PSNR", "mean PSNR of the mean input, in dB"),
    LayerQuantity("inverted_all", "all layers", "PSNR", "mean PSNR of a search by all layers' gradients, in dB"),
    LayerQuantity("inverted_mse", "inverted", "MSE", "mean squared error of the rebuilt inputs"),
    MATCH,
)
QUANTITIES = (*(one for _, group in GROUPS for one in group), *SEARCH)


def number(value: float | None) -> float:
    """Return a value as a float; NaN for one that was not measured."""
    return math.nan if value is None else float(value)
