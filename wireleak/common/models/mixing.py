"""Layers that mix the examples of a batch, under which no single example's influence can be bounded."""

from __future__ import annotations

from torch import nn

FIX = "opacus.validators.ModuleValidator.fix(network) converts one"


def mixing_layer(network: nn.Module) -> str | None:
    """Return why per-example clipping does not fit a network, naming its first BatchNorm, or None if it fits.

    Clipping bounds what each example's own gradient adds; under BatchNorm an example also changes all the others'.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            return (
                f"layer {name} is {type(layer).__name__}, which mixes the examples of a batch, so clipping each one's "
                f"gradient bounds nobody's influence; choose a network with GroupNorm in its place ({FIX})"
            )
    return None
