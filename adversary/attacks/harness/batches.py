"""Pairs of activation and input for training, batch by batch on the device; large ones are streamed, not copied."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adversary.attacks.harness.knowledge import Array
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
