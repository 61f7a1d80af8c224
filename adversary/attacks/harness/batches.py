"""Pairs of activation and input, batch by batch on the device, and the training of a decoder on them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adversary.attacks.harness.device import run_in_parts, step_in_parts
from adversary.attacks.harness.knowledge import Array
from adversary.attacks.harness.pace import Pace, shown
from wireleak.common.memory import blocks
from wireleak.common.standard import divisors
from wireleak.common.targets.memory import RESIDENT_BYTES

Rows = npt.NDArray[np.int64]


class Batches:
    """Standardised activations and their inputs.

    Parameters
    ----------
    seen : float32 or float16 (n, ...)
        Activations; they may be memory-mapped.
    inputs : float32 (n, ...)
    fitting : bool (n,)
        Every row is standardised by the mean and deviation of these rows.
    axes : tuple of int
        Axes over which the statistics are taken; axis 0 is one of them.
    device : torch.device
    """

    def __init__(
        self,
        seen: Array,
        inputs: Array,
        fitting: npt.NDArray[np.bool_],
        axes: tuple[int, ...],
        device: torch.device,
    ) -> None:
        self.activation, self.image = seen.shape[1:], inputs.shape[1:]
        self._seen, self._inputs, self._device = seen, inputs, device
        self._centre, self._scale = _statistics(seen, fitting, axes)
        self._resident = self.standard(seen) if seen.nbytes <= RESIDENT_BYTES else None

    def activations(self, rows: Rows) -> Tensor:
        """Return the standardised activations of these rows, on the device."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(rows).to(self._device)]
        return self.standard(self._seen[rows])

    def inputs(self, rows: Rows) -> Tensor:
        """Return the inputs of these rows, on the device."""
        return torch.from_numpy(self._inputs[rows]).to(self._device)

    def standard(self, seen: Array) -> Tensor:
        """Return any activations (n, ...), standardised, on the device."""
        scaled = np.subtract(seen, self._centre, dtype=np.float32)
        scaled /= self._scale
        found = torch.from_numpy(scaled).to(self._device)
        return found.contiguous(memory_format=torch.channels_last) if found.dim() == 4 else found


def _statistics(seen: Array, fitting: npt.NDArray[np.bool_], axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Return means and divisors (1, ..., 1) over `axes` of the fitting rows, a block of the kept axis at a time."""
    kept = next((axis for axis in range(1, seen.ndim) if axis not in axes), seen.ndim - 1)
    rows, parts = np.flatnonzero(fitting), []
    for part in blocks(seen.shape[kept], 8 * len(rows) * (seen[0].size // max(1, seen.shape[kept]))):
        place = tuple(part if axis == kept else slice(None) for axis in range(seen.ndim))
        values = seen[place][rows].astype(np.float32, copy=False)
        parts.append((values.mean(axes, keepdims=True), values.std(axes, keepdims=True)))
    centre, deviation = (np.concatenate(one, axis=kept) for one in zip(*parts, strict=True))
    return centre.astype(np.float32, copy=False), divisors(deviation, len(rows))


class Course(NamedTuple):
    """How a decoder is trained.

    Parameters
    ----------
    epochs, batch : int
        Passes over the pairs, and pairs in a step.
    peak, rise : float
        Highest learning rate, and the share of the steps before it.
    longest : float
        Norm to which a longer gradient is shortened.
    at_once : int
        Pairs that are decoded at once without gradients.
    """

    epochs: int
    batch: int
    peak: float
    rise: float
    longest: float
    at_once: int


def train(
    decoder: Any, pairs: Batches, rows: Rows, held: Rows, course: Course, pace: Pace, label: str
) -> dict[str, Any]:
    """Minimise a decoder's mean squared error by AdamW under a OneCycle schedule; keep its best epoch.

    Parameters
    ----------
    decoder : torch.nn.Module
        From activations to inputs.
    pairs : Batches
    rows, held : int64
        The pairs to train on, and those that choose the epoch; without any the last epoch is kept.
    course : Course
    pace : Pace
        All steps of the training; the schedule ends with those that fit.
    label : str
        Text beside the progress bar.

    Returns
    -------
    dict
        Epochs, the one that was kept, its error on `held`, and how far a training came that ended early.
    """
    if len(pairs.activation) == 3:
        decoder.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(decoder.parameters(), course.peak, fused=True)

    def one_cycle(steps: int) -> Any:
        # It divides by zero where one step or less comes before the peak.
        steps = max(10, steps, int(1 / course.rise) + 1)
        return torch.optim.lr_scheduler.OneCycleLR(optimiser, course.peak, total_steps=steps, pct_start=course.rise)

    def loss_of(some: Any) -> Tensor:
        return torch.nn.functional.mse_loss(decoder(pairs.activations(some)), pairs.inputs(some))

    schedule, best, kept, parts, weights = one_cycle(pace.planned), math.inf, 0, 1, decoder.state_dict()
    for epoch in shown(range(course.epochs), f"{label}: training"):
        decoder.train()
        order = rows[torch.randperm(len(rows)).numpy()]
        for start in range(0, len(order), course.batch):
            parts = step_in_parts(optimiser, loss_of, order[start : start + course.batch], parts, course.longest)
            schedule.step()
            if pace.step():
                schedule = one_cycle(pace.left)
            if pace.over:
                break
        error = _error(decoder, pairs, held, course.at_once)
        if error < best or not len(held):
            best, kept = error, epoch + 1
            weights = {name: value.clone() for name, value in decoder.state_dict().items()}
        if pace.over:
            break
    decoder.load_state_dict(weights)
    loss = best if len(held) else None
    said = {"epochs": course.epochs, "kept_epoch": kept, "validation_mse": loss, "held_out_loss": loss}
    return said | {"stopped": pace.stopped}


def _error(decoder: Any, pairs: Batches, held: Rows, at_once: int) -> float:
    """Return the mean squared error on held-out rows; infinite without any."""
    decoder.eval()
    squares, count = 0.0, 0
    for part, found in run_in_parts(lambda rows: decoder(pairs.activations(rows)), held, at_once):
        squares += float((found - pairs.inputs(held[part])).square().sum(dtype=torch.float64))
        count += found.numel()
    return squares / count if count else math.inf
