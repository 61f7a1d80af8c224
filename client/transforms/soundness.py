"""Which transforms DP-SGD keeps its promise under: users ask for both, and together most guarantee nothing."""

from __future__ import annotations

from collections.abc import Sequence

from client.transforms.registry import Transform
from wireleak.common.config import ConfigError


def check_private(steps: Sequence[Transform]) -> None:
    """Refuse transforms under which DP-SGD would promise what does not hold.

    Sound are those without a loss, and losses that are a sum over examples, each of its own activation and attributes.

    Raises
    ------
    ConfigError
        Names the first that is not.
    """
    for step in steps:
        if step.batchwise:
            raise ConfigError(
                f"transforms.{step.name}: one example's loss depends on the others of its batch, so clipping each "
                "one's gradient bounds nobody's influence; drop it or privacy"
            )
        if type(step).prepare is not Transform.prepare:
            raise ConfigError(
                f"transforms.{step.name}: trains a network of its own on private examples without noise, and through "
                "it they reach the encoder past its clipping; drop it or privacy"
            )
