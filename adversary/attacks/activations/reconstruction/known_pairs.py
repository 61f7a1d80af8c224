"""Known pairs: an attacker without queries that later learns the inputs of a few captured activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.activations.reconstruction.transposed import transposed_decoder
from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.pace import shown
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.standard import divisors
from wireleak.common.targets.input import Input
from wireleak.common.targets.ridge import ridge

_FOLDS = 3
_STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_BATCH, _AT_ONCE = 16, 32
# At its peak the learning rate loses whole fits to single long gradients.
_LONGEST = 0.1

Guess = Callable[[Array], Array]


class KnownPairsOptions(BaseModel):
    """Settings of `KnownPairs`."""

    model_config = ConfigDict(extra="forbid")
    pairs: int = Field(100, ge=5, description="Number of known pairs.")
    steps: int = Field(1000, ge=1, le=1_000_000, description="Training steps of the decoder, for any number of pairs.")
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Peak of the decoder's OneCycle schedule; by default .03, or .003 where large or dense.",
    )
    weight_decay: float = Field(0.01, ge=0, le=10, description="Weight decay of the decoder (AdamW).")


@register
class KnownPairs(ActivationAttack):
    """Rebuild inputs with the better of two decoders, trained on a few known pairs of input and activation.

    The candidates are a ridge regression, whose strength the pairs choose, and a small decoder of transposed
    convolutions (a perceptron for flat activations) with weight decay. Each is judged by three-fold cross-validation on
    the known pairs themselves; the better one is fitted on all of them. The known pairs are the first in a random
    order, so a smaller set is part of a larger one.
    """

    name = "known-pairs"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.SERVER),
        sees=("activation",),
        knows=(Knows.SURROGATE, Knows.PAIRS),
    )
    target = Input
    options = KnownPairsOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Choose between the candidates on the pairs, and fit the better one."""
        own = np.flatnonzero(~knowledge.augmented)
        wanted, have = self.settings.pairs, len(own) if len(knowledge.seen) else 0
        if wanted > have:
            raise ValueError(f"options.pairs: {wanted} is more than the {have} captured pairs; give fewer")
        rows = own[np.random.default_rng(self.seed).permutation(have)[:wanted]]
        z, x = knowledge.seen[rows], knowledge.inputs[rows]
        self._range = knowledge.input_range
        fold = np.arange(wanted) % _FOLDS
        candidates: dict[str, Callable[[Array, Array], Guess]] = {"ridge": _ridge, "decoder": self._train}
        error = {}
        for name, make in candidates.items():
            squares = [
                np.square(self._clip(make(z[fold != k], x[fold != k])(z[fold == k])) - x[fold == k]).sum()
                for k in range(_FOLDS)
            ]
            error[name] = float(sum(squares) / x.size)
        best = min(error, key=lambda name: error[name])
        self._guess = candidates[best](z, x)
        self.report |= {"chosen": best, "validation_mse": error[best], "candidates": error, "known_pairs": wanted}

    def guess(self, activations: Array) -> Array:
        """Rebuild inputs (n, *input_shape) from activations (n, *activation_shape)."""
        return self._clip(self._guess(activations))

    def _clip(self, guess: Array) -> Array:
        return np.clip(guess, *self._range)

    def _train(self, z: Array, x: Array) -> Guess:
        """Fit the decoder, on activations scaled by channel and inputs less their overall mean."""
        import torch

        from adversary.attacks.harness.device import best_device, run_in_parts, step_in_parts
        from adversary.attacks.harness.progressive import is_careful

        device = best_device()
        axes = (0, *range(2, z.ndim))
        # Not centred: transposed convolutions pad with zeros, which would then mean another value at the border.
        scale, mean = divisors(np.sqrt(np.square(z).mean(axes, keepdims=True)), len(z)), x.mean()

        def scaled(seen: Array) -> Any:
            return torch.from_numpy((seen / scale).astype(np.float32)).to(device)

        with torch.random.fork_rng(devices=None if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            decoder = transposed_decoder(z.shape[1:], x.shape[1:]).to(device)
        inputs, goal = scaled(z), torch.from_numpy(x - mean).to(device)
        steps = max(10, self.settings.steps)
        peak = self.settings.learning_rate or (0.003 if is_careful(decoder) else 0.03)
        optimiser = torch.optim.AdamW(decoder.parameters(), peak, weight_decay=self.settings.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=steps, pct_start=0.2)
        rng = np.random.default_rng([self.seed, 1])

        def loss_of(rows: Any) -> Any:
            return torch.nn.functional.mse_loss(decoder(inputs[rows]), goal[rows])

        for _ in shown(range(steps), "known-pairs"):
            step_in_parts(optimiser, loss_of, rng.permutation(len(z))[:_BATCH], 1, _LONGEST)
            schedule.step()

        def guess(seen: Array) -> Array:
            found = np.empty((len(seen), *x.shape[1:]), np.float32)
            for part, picture in run_in_parts(lambda rows: decoder(scaled(rows)), seen, _AT_ONCE):
                found[part] = picture.cpu().numpy() + mean
            return found

        return guess


def _ridge(z: Array, x: Array) -> Guess:
    """Fit ridge regression; a third of the pairs chooses the strength, then all of them are fitted with it."""
    held = np.arange(len(z)) % _FOLDS == 0
    chosen = ridge(z, x, held, _STRENGTHS)
    fitted = ridge(z, x, np.zeros(len(z), bool), (chosen.strength,))
    return lambda seen: fitted.guess(seen).reshape(-1, *x.shape[1:])
