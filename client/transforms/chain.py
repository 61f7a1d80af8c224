"""A chain of a device's transforms, used to train the encoder, to change inputs and to send activations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from client.transforms.registry import Batch, Scene, make_all
from wireleak.common.config import Plugin
from wireleak.common.models import load_weights, save_weights


class Chain:
    """Transforms that are applied in order.

    Parameters
    ----------
    configs : sequence of Plugin
    seed : int
        Seed of every random draw.

    Raises
    ------
    ConfigError
        As for `make_all`.
    """

    def __init__(self, configs: Sequence[Plugin], seed: int) -> None:
        self.steps = make_all(configs, seed)
        self._modules: dict[str, nn.Module] = {}

    def __call__(self, activation: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the tensor to send for activations (n, *activation_shape) of unchanged inputs (n, *input_shape)."""
        for step in self.steps:
            if not step.before_encoder:
                activation = step(activation, inputs)
        return activation

    def before(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what the encoder gets instead of inputs (n, *input_shape)."""
        changed = inputs
        for step in self.steps:
            if step.before_encoder:
                changed = step(changed, inputs)
        return changed

    @property
    def private(self) -> list[str]:
        """Private attributes that the device must know for its training examples."""
        return sorted({name for step in self.steps for name in step.private()})

    @property
    def trains(self) -> bool:
        """Whether any step has a loss of its own."""
        return any(step.trains for step in self.steps)

    def prepare(self, scene: Scene, kept: Path | None) -> None:
        """Make the networks that steps train, and load their weights of the last round from the folder `kept`."""
        for place, step in enumerate(self.steps):
            if (module := step.prepare(scene)) is not None:
                self._modules[f"{place}-{step.name}.safetensors"] = module
        for name, module in self._modules.items():
            if kept is not None and (kept / name).exists():
                load_weights(module, kept / name)

    def keep(self, kept: Path) -> None:
        """Save the networks that steps trained, for the next round."""
        for name, module in self._modules.items():
            save_weights(module, kept / name)

    def loss(self, activation: torch.Tensor, batch: Batch) -> torch.Tensor | None:
        """Return the sum of the steps' losses, to be added to the task's loss; None if no step has a loss."""
        losses = [loss for step in self.steps if (loss := step.loss(activation, batch)) is not None]
        return torch.stack(losses).sum() if losses else None

    def told(self) -> dict[str, float]:
        """Return the round's diagnostics as "own/<step>/<name>"; a step that occurs twice gets its position."""
        names = [step.name for step in self.steps]
        diagnostics: dict[str, float] = {}
        for place, step in enumerate(self.steps):
            shown = step.name if names.count(step.name) == 1 else f"{step.name}-{place}"
            diagnostics |= {f"own/{shown}/{name}": value for name, value in step.told().items()}
        return diagnostics
