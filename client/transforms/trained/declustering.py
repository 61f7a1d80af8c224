"""Declustering: push activations of the same private group apart, and pull those of different groups together."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

from client.transforms.registry import Batch, Changes, Transform, register


class DeclusteringOptions(BaseModel):
    """Settings of `Declustering`."""

    model_config = ConfigDict(extra="forbid")
    attributes: tuple[str, ...] = Field(min_length=1, description="Private attributes that must not form clusters.")
    alpha: float = Field(
        0.1, ge=0, le=100, allow_inf_nan=False, description="Weight relative to the task's loss; the authors' is .1."
    )

    @field_validator("attributes")
    @classmethod
    def _once_each(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names) or "" in names:
            raise ValueError(f"{', '.join(map(repr, names))}: name each attribute once")
        return names


@register
class Declustering(Transform):
    """Add L_d = alpha (0.5 - s) ||r - r'||^2 for pairs of a batch, s the share of private labels that match.

    s measures agreement, although the authors' code names it otherwise. Pairs that agree are pushed apart, and pairs
    that differ are pulled together. Each example is paired with the next one in a random order; L_d is the mean over
    pairs.

    With one attribute whose two values are equally frequent, L_d is on average the squared distance between the groups'
    means, and bounded. If pairs that agree are more frequent, L_d has no lower bound unless activations have one (the
    authors' LSTM state lies in [-1, 1]). If they are rarer, as with many values, L_d pulls all activations together.
    It depends only on means: groups with one mean and different shapes stay distinguishable. Nothing is guaranteed.

    References
    ----------
    Coavoux, Narayan, Cohen, "Privacy-preserving Neural Representations of Text", EMNLP 2018, section 3.3 and its code.
    """

    name = "declustering"
    options = DeclusteringOptions
    changes = Changes("trains its encoder to mix private groups, whose labels it must know")
    batchwise = True
    settings: DeclusteringOptions

    def __init__(self, settings: Any, seed: int) -> None:
        super().__init__(settings, seed)
        self._generator = torch.Generator().manual_seed(seed)

    def private(self) -> tuple[str, ...]:
        """Return the attributes by which pairs are compared."""
        return self.settings.attributes

    def loss(self, activation: Tensor, batch: Batch) -> Tensor | None:
        """Return the mean of L_d over the batch's pairs; None for one example."""
        if len(activation) < 2:
            return None
        order = torch.randperm(len(activation), generator=self._generator)
        partner = order.roll(1)
        flat = activation.flatten(1)
        distance = (flat[order] - flat[partner]).square().sum(1)
        labels = torch.stack([batch.private[name] for name in self.settings.attributes])
        matching = (labels[:, order] == labels[:, partner]).float().mean(0)
        return self.settings.alpha * ((0.5 - matching) * distance).mean()
