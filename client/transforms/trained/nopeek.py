"""NoPeek: train activations to depend less on inputs, by their distance correlation within a batch."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from client.transforms.registry import Batch, Changes, Transform, register
from wireleak.common.measures.scores.measure import are_numbered


class NoPeekOptions(BaseModel):
    """Settings of `NoPeek`."""

    model_config = ConfigDict(extra="forbid")
    alpha: float = Field(
        0.5,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="Weight relative to the task's loss; the papers' are .1 to 1.",
    )


@register
class NoPeek(Transform):
    """Add alpha times the distance correlation of the batch's inputs and activations to the encoder's loss.

    This is the true distance correlation, of double-centred Euclidean distances (0 only under independence). Two public
    code bases centre squared distances, which gives sqrt(linear CKA). For texts of word numbers the distances are those
    of one-hot codes, because the size of a word number has no meaning. In a batch of n the value is biased upwards,
    more for smaller n, so even independent activations score above 0. Nothing is guaranteed, and labels are not
    protected.

    References
    ----------
    Vepakomma, Singh, Gupta, Raskar, "NoPeek: Information leakage reduction to share activations in distributed deep
    learning", ICDM workshops 2020; Titcombe et al., DPML@ICLR 2021; Székely, Rizzo, Bakirov, Annals of Statistics 2007.
    """

    name = "nopeek"
    options = NoPeekOptions
    changes = Changes("trains its encoder for a low distance correlation between inputs and activations")
    batchwise = True
    settings: NoPeekOptions

    def __init__(self, settings: Any, seed: int) -> None:
        super().__init__(settings, seed)
        self._total, self._batches = 0.0, 0

    def loss(self, activation: Tensor, batch: Batch) -> Tensor | None:
        """Return alpha times the batch's distance correlation; None for one example."""
        if len(activation) < 2:
            return None
        value = _correlation(_distances_of_inputs(batch.inputs), distances(activation))
        self._total, self._batches = self._total + value.item(), self._batches + 1
        return (self.settings.alpha * value).to(activation.dtype)

    def told(self) -> dict[str, float]:
        """Return the mean over the round's batches."""
        return {"distance-correlation": self._total / self._batches} if self._batches else {}


def distance_correlation(x: Tensor, z: Tensor) -> Tensor:
    """Return the biased distance correlation, a float64 scalar, of two views (n, …) of the same n >= 2 examples.

    sqrt(V(x,z) / sqrt(V(x,x) V(z,z))), V(x,z) = mean of A * B, A and B double-centred Euclidean distances. The gradient
    does not exist through distances of 0, or if one view does not vary or the value is 0; it is set to 0 there.
    """
    return _correlation(distances(x), distances(z))


def distances(rows: Tensor) -> Tensor:
    """Return Euclidean distances (n, n) between flattened rows, float64; a distance of 0 passes no gradient."""
    flat = rows.flatten(1).double()
    flat = flat - flat.mean(0)
    gram = flat @ flat.T
    both = gram.diagonal() + gram.diagonal().unsqueeze(1)
    squared = both - 2 * gram
    # Equal rows give a rounding error instead of 0, and its square root has a huge gradient.
    apart = squared > 1e-14 * both
    return torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)


def _distances_of_inputs(inputs: Tensor) -> Tensor:
    if are_numbered(inputs.numpy()):
        differing = torch.cdist(inputs.double(), inputs.double(), p=0)
        return (2 * differing).sqrt()
    return distances(inputs)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = _centred(a), _centred(b)
    covariance, variances = (a * b).mean(), (a * a).mean() * (b * b).mean()
    if not (covariance > 0 and variances > 0):
        return covariance * 0
    return (covariance / variances.sqrt()).sqrt()


def _centred(distances: Tensor) -> Tensor:
    return distances - distances.mean(0) - distances.mean(1, keepdim=True) + distances.mean()
