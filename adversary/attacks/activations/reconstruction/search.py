"""Search the inputs that a known encoder maps to captured activations, by gradient descent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.knowledge import Array
from adversary.attacks.harness.pace import Pace, shown

_CHUNK = 256


class SearchOptions(BaseModel):
    """Settings of the search, for inputs scaled to [-1, 1]."""

    model_config = ConfigDict(extra="forbid")
    iterations: int = Field(500, ge=1, le=1_000_000, description="Steps of Adam.")
    learning_rate: float = Field(
        0.2, gt=0, description="Adam's first step size; .01 (shallow) or .001 (deep) in the paper."
    )
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="Schedule of the step size; constant in the paper."
    )
    epsilon: float = Field(1e-5, gt=0, description="Adam's epsilon; .001 in the authors' code.")
    tv: float = Field(0.05, ge=0, description="Weight of the total variation; use 0 if the cut keeps all information.")
    l2: float = Field(0.0, ge=0, description="Weight of the mean square.")
    start: Literal["grey", "noise"] = Field(
        "grey", description="Start from the middle of the range, or from uniform noise."
    )


def invert(
    encoder: Any,
    seen: Array,
    shape: tuple[int, ...],
    span: tuple[float, float],
    settings: SearchOptions,
    seed: int,
    deadline: float | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[Array, float]:
    """Search the inputs that an encoder maps to given activations, all rows at once.

    Each row has its own loss and Adam works element by element, so a row's result does not depend on the others.

    Parameters
    ----------
    encoder : torch.nn.Module
        Differentiable map from inputs to activations; goes to the GPU if there is one.
    seen : numpy.ndarray
        Float32 (n, *activation_shape).
    shape : tuple of int
        One input's shape, channels first; axes after the first are spatial.
    span : (float, float)
        Least and greatest value of an input.
    settings : SearchOptions
    seed : int
        Seed of the noise of `start = "noise"`.
    deadline : float, optional
        Time by `time.monotonic` at which the search stops with what it has; it is shared by parts of the rows.
    say : callable, optional
        Called where the search of a part stopped early.

    Returns
    -------
    inputs : numpy.ndarray
        Float32 (n, *shape) within `span`.
    residual : float
        The remaining mean squared distance between activations.

    Raises
    ------
    ValueError
        The encoder's activations have another shape, or no gradient reaches its input.
    """
    import torch

    from adversary.attacks.harness.device import best_device

    device = best_device()
    encoder = encoder.to(device).eval().requires_grad_(False)
    middle, half = (span[0] + span[1]) / 2, max((span[1] - span[0]) / 2, 1e-12)
    rng = np.random.default_rng(seed)
    starts = np.zeros((len(seen), *shape)) if settings.start == "grey" else rng.uniform(-1, 1, (len(seen), *shape))
    _check(encoder, torch.full((1, *shape), middle, device=device), seen)
    pieces, left = [], 0.0
    for at in range(0, len(seen), _CHUNK):
        now, parts = time.monotonic(), math.ceil((len(seen) - at) / _CHUNK)
        pace = Pace(settings.iterations, None if deadline is None else now + (deadline - now) / parts)
        z = torch.from_numpy(seen[at : at + _CHUNK]).to(device)
        u = torch.from_numpy(starts[at : at + _CHUNK].astype(np.float32)).to(device).requires_grad_(True)
        optimiser = torch.optim.Adam([u], settings.learning_rate, eps=settings.epsilon, amsgrad=True)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.iterations)
        steps = range(settings.iterations)
        for _ in shown(steps, "rmle: searching"):
            optimiser.zero_grad()
            distance = (encoder(middle + half * u) - z).square().flatten(1).mean(1)
            prior = settings.l2 * u.square().flatten(1).mean(1) + settings.tv * total_variation(u)
            torch.autograd.backward((distance + prior).sum())
            optimiser.step()
            if settings.schedule == "cosine":
                decay.step()
            if pace.step():
                decay.T_max = pace.allowed
            if pace.over:
                break
        if say is not None and pace.stopped is not None:
            say(pace.stopped)
        left += float(distance.detach().sum())
        pieces.append((middle + half * u.detach().clamp(-1, 1)).cpu().numpy())
    return np.concatenate(pieces), left / len(seen)


def total_variation(x: Any) -> Any:
    """Return the squared differences of neighbours in x (n, channels, ...): a mean per spatial axis, summed to (n,)."""
    per_axis = [x.diff(dim=axis).square().flatten(1).mean(1) for axis in range(2, x.dim()) if x.shape[axis] > 1]
    return sum(per_axis, start=x.new_zeros(len(x)))


def _check(encoder: Any, start: Any, seen: Array) -> None:
    try:
        activation = encoder(start.requires_grad_(True))
    except RuntimeError as error:
        why = str(error).partition("\n")[0]
        raise ValueError(f"model: the network takes no real-valued inputs ({why}); this search needs them") from None
    if not activation.requires_grad:
        raise ValueError(
            "model: no gradient reaches the network's inputs (token ids?); use an attack that trains on pairs"
        )
    if tuple(activation.shape[1:]) != seen.shape[1:]:
        shapes = f"{tuple(activation.shape[1:])}, the captured ones {seen.shape[1:]}"
        raise ValueError(f"model.cut: the encoder's activations have shape {shapes}; grant the network that was cut")
