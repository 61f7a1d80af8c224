"""Unpaired: decode the victims' latents with the attacker's own autoencoder, without pairs and queries."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.activations.reconstruction.alignments import ALIGNMENTS
from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.pace import shown
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.input import Input

_BATCH = 64
_Map = Callable[[Array], Array]


class UnpairedOptions(BaseModel):
    """Settings of `Unpaired`."""

    model_config = ConfigDict(extra="forbid")
    hidden: tuple[int, ...] = Field((700, 500, 300), description="Hidden units of the attacker's encoder.")
    steps: int = Field(1000, ge=1, le=1_000_000, description="Training steps of each of the two autoencoders.")
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Adam's learning rate.")


@register
class Unpaired(ActivationAttack):
    """Rebuild inputs from latents with a decoder that was trained with another encoder, aligned only by statistics.

    The attacker has data like the victims' and sees how many numbers cross the wire. It knows no pair, sends no query,
    and has no weights. It trains an autoencoder of that width and maps the victims' latents onto its own by one of
    four alignments: none; coordinates matched by their variance and mapped quantile by quantile; principal axes
    matched by variance and skewness; those axes, refined by alternating optimal assignment and orthogonal Procrustes.
    It chooses the alignment, and its weight against the mean image, on a simulated victim: a second autoencoder with
    other data of its own and another seed.

    References
    ----------
    The latents post, which calls latents private and tried no attack; Grave, Joulin, Berthet, "Unsupervised Alignment
    of Embeddings with Wasserstein Procrustes", AISTATS 2019.
    """

    name = "unpaired"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.SERVER), sees=("activation",), knows=(Knows.SURROGATE,)
    )
    target = Input
    options = UnpairedOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Split the attacker's own inputs in two halves; the latents' width is known only with the victims' latents."""
        own = knowledge.without_copies().inputs
        if len(own) < 4:
            raise ValueError(
                f"granted.surrogate: {len(own)} inputs are too few for the two autoencoders of unpaired; grant more"
            )
        order = np.random.default_rng(self.seed).permutation(len(own))
        self._halves, self._mean, self._range = (own[order[::2]], own[order[1::2]]), own.mean(0), knowledge.input_range

    def guess(self, activations: Array) -> Array:
        """Rebuild inputs (n, *input_shape) from latents (n, ...); the alignment needs many of them."""
        victims, (first, second) = activations.reshape(len(activations), -1), self._halves
        # Its own latents never die (softplus); the victims' may, as those of a ReLU do.
        encode, decode = self._train(first, victims.shape[1], "Softplus", self.seed)
        played, _ = self._train(second, victims.shape[1], "ReLU", self.seed + 1)
        own, rehearsal, truth = encode(first), played(second), second - self._mean
        error, trust = {}, {}
        for name, align in ALIGNMENTS.items():
            away = decode(align(rehearsal, own)) - self._mean
            trust[name] = float(np.clip((away * truth).sum() / max((away**2).sum(), 1e-12), 0, 1))
            error[name] = float(np.mean((trust[name] * away - truth) ** 2))
        best = min(error, key=lambda name: error[name])
        self.report |= {"alignment": best, "trust": trust[best], "rehearsed_mse": error}
        self.report["own_autoencoder_mse"] = float(np.mean((decode(encode(second)) - second) ** 2))
        guesses = self._mean + trust[best] * (decode(ALIGNMENTS[best](victims, own)) - self._mean)
        return np.asarray(np.clip(guesses, *self._range), np.float32)

    def _train(self, inputs: Array, width: int, last: str, seed: int) -> tuple[_Map, _Map]:
        """Train an autoencoder, and return its functions: encode to (n, width), decode to (n, *input_shape)."""
        import torch
        from torch import nn

        from adversary.attacks.harness.device import best_device

        device = best_device()
        low, high = self._range
        with torch.random.fork_rng(devices=None if device.type == "cuda" else []):
            torch.manual_seed(seed)
            sizes = [int(np.prod(inputs.shape[1:])), *self.settings.hidden, width]
            down = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
            up = [layer for pair in pairwise(sizes[::-1]) for layer in (nn.Linear(*pair), nn.ReLU())]
            encoder = nn.Sequential(nn.Flatten(), *down[:-1], getattr(nn, last)()).to(device)
            decoder = nn.Sequential(*up[:-1], nn.Sigmoid(), nn.Unflatten(1, inputs.shape[1:])).to(device)
            optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], self.settings.learning_rate)
            x = (torch.from_numpy(inputs).to(device) - low) / max(high - low, 1e-12)
            for _ in shown(range(self.settings.steps), "unpaired: training"):
                batch = x[torch.randint(len(x), (_BATCH,)).to(device)]
                loss = nn.functional.mse_loss(decoder(encoder(batch)), batch)
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()

        def through(module: Any, rows: Array) -> Array:
            with torch.no_grad():
                found: Array = module(torch.from_numpy(np.ascontiguousarray(rows, np.float32)).to(device)).cpu().numpy()
            return found

        return (
            lambda rows: through(encoder, (rows - low) / max(high - low, 1e-12)),
            lambda latents: low + (high - low) * through(decoder, latents),
        )
