"""A device's transforms in their order: one thing to train with and to send through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from client.transforms.registry import Batch, Scene, make
from wireleak.common.config import Plugin
from wireleak.common.models import load_weights, save_weights


class Chain:
    """Transforms, one after the other.

    Parameters
    ----------
    configs : sequence of Plugin
    seed : int
        Every random choice follows from it.
    """

    def __init__(self, configs: Sequence[Plugin], seed: int) -> None:
        self.steps = [make(config, seed) for config in configs]
        self._modules: dict[str, nn.Module] = {}

    def __call__(self, activation: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return what is sent for activations (n, *activation_shape) of inputs (n, *input_shape)."""
        for step in self.steps:
            activation = step(activation, inputs)
        return activation

    @property
    def private(self) -> list[str]:
        """Private attributes that the device must know of its training examples."""
        return sorted({name for step in self.steps for name in step.private()})

    @property
    def trains(self) -> bool:
        """Whether any step has a loss of its own."""
        return any(step.trains for step in self.steps)

    def prepare(self, scene: Scene, kept: Path | None) -> None:
        """Make what steps train beside the encoder; go on with what the last round left in the folder `kept`."""
        for place, step in enumerate(self.steps):
            if (module := step.prepare(scene)) is not None:
                self._modules[f"{place}-{step.name}.safetensors"] = module
        for name, module in self._modules.items():
            if kept is not None and (kept / name).exists():
                load_weights(module, kept / name)

    def keep(self, kept: Path) -> None:
        """Keep what steps trained beside the encoder for the next round."""
        for name, module in self._modules.items():
            save_weights(module, kept / name)

    def loss(self, activation: torch.Tensor, batch: Batch) -> torch.Tensor | None:
        """Sum of what the steps want minimised beside the task's loss; None where none does."""
        found = [loss for step in self.steps if (loss := step.loss(activation, batch)) is not None]
        return torch.stack(found).sum() if found else None

    def told(self) -> dict[str, float]:
        """Figures of the round, as "own/<step>/<figure>"; a step's name that stands twice gets its place."""
        names = [step.name for step in self.steps]
        found: dict[str, float] = {}
        for place, step in enumerate(self.steps):
            shown = step.name if names.count(step.name) == 1 else f"{step.name}-{place}"
            found |= {f"own/{shown}/{name}": value for name, value in step.told().items()}
        return found
