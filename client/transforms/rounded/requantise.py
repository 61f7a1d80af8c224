"""Requantise: send only the bits of each number that the service needs, so that nothing can hide in the others."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from client.transforms.registry import Changes, Transform, register, straight_through

MANTISSA = 23


class RequantiseOptions(BaseModel):
    """Settings of `Requantise`."""

    model_config = ConfigDict(extra="forbid")
    bits: int = Field(7, ge=0, le=MANTISSA, description="Mantissa bits kept of float32's 23; 7 are bfloat16's.")
    dtype: Literal["float16", "bfloat16"] | None = Field(None, description="Round to this type, instead of to bits.")


@register
class Requantise(Transform):
    """Round every number to few mantissa bits, to nearest with ties to even; zeros stay zero.

    A gateway or a careful runtime can do this against a covert channel. Rounding removes all that malicious code wrote
    into the low bits, and accuracy hardly changes. Numbers below float32's normal range become 0. Sent as float32.
    """

    name = "requantise"
    options = RequantiseOptions
    changes = Changes("rounds each number", wire="numbers with fewer mantissa bits")

    def __call__(self, activation: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the rounded activation, float32 of the same shape."""
        if self.settings.dtype is None:
            return straight_through(activation, round_mantissa(activation.detach(), self.settings.bits))
        narrow = getattr(torch, self.settings.dtype)
        limit = torch.finfo(narrow).max
        return straight_through(activation, activation.detach().clamp(-limit, limit).to(narrow).to(torch.float32))


def round_mantissa(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Round float32 values to `bits` mantissa bits, ties to even; values that would become infinite are cut instead."""
    drop = MANTISSA - bits
    words = values.contiguous().view(torch.int32)
    sign, magnitude = words & ~0x7FFFFFFF, words & 0x7FFFFFFF
    if drop:
        odd = (magnitude >> drop) & 1
        rounded = (magnitude + ((1 << (drop - 1)) - 1) + odd) >> drop << drop
        largest = (0x7F7FFFFF >> drop) << drop
        # A carry out of the mantissa goes into the exponent, which is correct when rounding up.
        magnitude = torch.where(magnitude <= 0x7F7FFFFF, rounded.clamp(max=largest), magnitude)
    magnitude = torch.where(magnitude < 0x00800000, 0, magnitude)
    return (sign | magnitude).view(torch.float32)
