"""A generative prior: an attacker trains an autoencoder on its own data, and searches its codes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from adversary.attacks.harness.knowledge import Knowledge

Array = npt.NDArray[np.float32]
_BATCH, _LEAST, _RATE = 64, 12, 3e-3
# The divergence's share: on attackers' held-out digits 1 and 0.02 left larger errors.
_DIVERGENCE = 0.1


class Decoder(nn.Module):
    """Map codes (n, size), standard normal under the prior, to inputs (n, *shape) in [-1, 1]."""

    def __init__(self, size: int, shape: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        self.size, self.shape = size, shape
        self.layers = nn.Sequential(
            nn.Linear(size, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, math.prod(shape)),
        )

    def forward(self, codes: Any) -> Any:
        """Decode the codes."""
        return torch.tanh(self.layers(codes)).view(-1, *self.shape)


def prior_of(
    settings: Any, knowledge: Knowledge, span: tuple[float, float], seed: int
) -> tuple[Decoder | None, dict[str, float]]:
    """Train the prior that an attack's settings name, on the attacker's own inputs.

    Parameters
    ----------
    settings : pydantic model
        With the fields `prior`, `codes` and `prior_steps`.
    knowledge : Knowledge
    span : (float, float)
        Least and greatest value of an input.
    seed : int

    Returns
    -------
    decoder : Decoder or None
        None where the settings name no prior.
    report : dict
        Its error on held-out inputs, for the attack's report.
    """
    if settings.prior == "none":
        return None, {}
    own = knowledge.without_copies().inputs
    decoder, error = learn_prior(own, span, settings.codes, settings.prior_steps, seed)
    return decoder, {"prior_mse": error}


def learn_prior(inputs: Array, span: tuple[float, float], size: int, steps: int, seed: int) -> tuple[Decoder, float]:
    """Train a variational autoencoder on an attacker's inputs and return its decoder.

    Every sixth input is held out; the returned error is of their mean codes.

    Parameters
    ----------
    inputs : numpy.ndarray
        Float32 (n, ...).
    span : (float, float)
        Least and greatest value of an input.
    size : int
        Length of a code.
    steps : int
        Steps of AdamW.
    seed : int

    Returns
    -------
    decoder : Decoder
    error : float
        Mean squared error of held-out inputs, on the inputs' scale.

    References
    ----------
    Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014.
    """
    if len(inputs) < _LEAST:
        raise ValueError(f"granted.surrogate: {len(inputs)} inputs are too few to learn a prior; give {_LEAST} or more")
    middle, half = (span[0] + span[1]) / 2, max((span[1] - span[0]) / 2, 1e-12)
    x = torch.from_numpy((inputs - middle) / half).float()
    held = torch.arange(len(x)) % 6 == 5
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        own, hidden = x[~held], 256
        decoder = Decoder(size, tuple(x.shape[1:]), hidden)
        encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(x[0].numel(), hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
            nn.Linear(hidden, 2 * size),
        )  # fmt: skip
        steps = max(10, steps)  # OneCycleLR divides by zero for fewer
        parameters = [*encoder.parameters(), *decoder.parameters()]
        optimiser = torch.optim.AdamW(parameters, _RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps, pct_start=0.2)
        for _ in range(steps):
            batch = own[torch.randint(len(own), (_BATCH,))]
            mean, spread = encoder(batch).chunk(2, 1)
            codes = mean + torch.randn_like(mean) * torch.exp(spread / 2)
            error = (decoder(codes) - batch).square().flatten(1).sum(1).mean()
            divergence = (mean.square() + spread.exp() - 1 - spread).sum(1).mean() / 2
            optimiser.zero_grad()
            torch.autograd.backward(error + _DIVERGENCE * divergence)
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            rebuilt = decoder(encoder(x[held]).chunk(2, 1)[0])
            left = float((rebuilt - x[held]).square().mean()) * half**2
    return decoder.eval().requires_grad_(False), left
