"""Quantise: round every number to one of 2^bits levels of a fixed range."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from client.transforms.registry import Changes, Transform, register, straight_through


class QuantiseOptions(BaseModel):
    """Settings of `Quantise`. The range is [-clip, clip], or `low` to `high`; it must not be taken from the data."""

    model_config = ConfigDict(extra="forbid")
    bits: int = Field(ge=1, le=16, description="Each number becomes one of 2^bits levels.")
    clip: float | None = Field(None, gt=0, allow_inf_nan=False, description="Range -clip to clip.")
    low: float | None = Field(
        None, allow_inf_nan=False, description="Lowest level; give it with high, instead of clip."
    )
    high: float | None = Field(
        None, allow_inf_nan=False, description="Highest level; give it with low, instead of clip."
    )

    @model_validator(mode="after")
    def _one_range(self) -> QuantiseOptions:
        given = (self.low is not None, self.high is not None)
        if any(given) != all(given) or any(given) == (self.clip is not None):
            raise ValueError("clip: give clip, or low and high, and not both")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"high: {self.high:g} is not above low, {self.low:g}; swap them")
        return self

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest level."""
        if self.clip is not None:
            return -self.clip, self.clip
        assert self.low is not None and self.high is not None
        return self.low, self.high


@register
class Quantise(Transform):
    """Round every number to the nearest of 2^bits evenly spaced levels; numbers outside the range go to its end.

    The levels are sent as float32 without packing, so messages keep their size. A message of d numbers carries at most
    d * bits bits of information to any reader. This does not bound an attacker's success on one input, because a few
    bits identify a person. The gradient passes straight through for numbers inside the range, and is 0 outside.

    References
    ----------
    Hubara, Courbariaux, Soudry, El-Yaniv, Bengio, "Quantized Neural Networks", JMLR 2018 (saturated straight-through).
    """

    name = "quantise"
    options = QuantiseOptions
    changes = Changes("rounds each number to few levels", wire="float32 that take few values; as many bytes as before")

    def __call__(self, activation: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the nearest levels, float32 of the same shape."""
        low, high = self.settings.range
        steps = 2**self.settings.bits - 1
        inside = activation.nan_to_num().clamp(low, high)
        level = ((inside.detach().double() - low) * (steps / (high - low))).round()
        return straight_through(inside, (low + level * ((high - low) / steps)).to(activation.dtype))

    def guarantee(self, messages: int) -> str:
        """Return the most information that `messages` can carry: a capacity, not privacy."""
        bits = messages * self.settings.bits
        count = "a message" if messages == 1 else f"{messages} messages"
        return f"capacity, not privacy: {count} of d numbers can carry at most {bits} d bits; {self.refusal()}"

    def refusal(self) -> str:
        """Return why rounding has no epsilon."""
        return (
            "no epsilon of its own: rounding is deterministic, so values on different levels are always distinguishable"
        )
