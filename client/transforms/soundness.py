"""Check that transforms keep the guarantee of DP-SGD; most transforms with a loss break it."""

from __future__ import annotations

from collections.abc import Sequence

from client.transforms.registry import Transform
from wireleak.common.config import ConfigError


def check_private(steps: Sequence[Transform]) -> None:
    """Refuse transforms that break the guarantee of DP-SGD.

    Transforms without a loss keep it. So do losses that are a sum over examples, each of its own activation and
    attributes.

    Raises
    ------
    ConfigError
        A transform breaks it; the message names the first.
    """
    for step in steps:
        if step.batchwise:
            raise ConfigError(
                f"transforms.{step.name}: one example's loss depends on other examples of its batch, so clipping per "
                "example does not bound its influence; drop it or privacy"
            )
        if type(step).prepare is not Transform.prepare:
            raise ConfigError(
                f"transforms.{step.name}: trains a network of its own on private examples without noise, so they "
                "influence the encoder without clipping; drop it or privacy"
            )
