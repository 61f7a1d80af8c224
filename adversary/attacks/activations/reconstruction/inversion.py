"""Inversion: a decoder from activation to input, trained on the attacker's own queries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.pace import Pace
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.input import Input
from wireleak.common.targets.memory import Sizes, training_memory

# Examples in all epochs together, pairs in a step, peak of the learning rate, share of the steps before it, and the
# norm to which longer gradients are shortened; chosen on attackers' own held-out pairs.
_DENSE, _LARGE = (50_000, 64, 0.003, 0.2, math.inf), (30_000, 32, 0.003, 0.2, math.inf)
# At these rates one step in some thousands had a gradient a hundred times as long, and the fit was lost.
_LOCAL, _FROM_LEAST_SQUARES = (30_000, 32, 0.01, 0.2, 0.1), (3_750, 8, 0.0065, 0.1, 0.1)
# Fan-in of a convolution up to which the last rate holds.
_FAN_IN = 288


class InversionOptions(BaseModel):
    """Settings of `Inversion`."""

    model_config = ConfigDict(extra="forbid")
    epochs: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Passes over the pairs; by default enough for 3,750 (local), 50,000 (dense) or 30,000 examples.",
    )
    width: float = Field(1.0, gt=0, le=64, description="Factor for the number of the decoder's hidden units.")
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="Peak of the OneCycle schedule; by default at most 0.0065 (local) or 0.003."
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout of a dense decoder's hidden units.")


@register
class Inversion(ActivationAttack):
    """Rebuild a victim's input from the activation that its device sent.

    The attacker owns a device of the same service, so it can send inputs of its choice and capture their activations:
    its training pairs come from the wire. The decoder minimises the mean squared error with AdamW under a OneCycle
    schedule, and the best epoch on the attacker's held-out pairs is kept. Activations are standardised, and guesses are
    clipped to the range of the attacker's inputs. The linear path of a local decoder starts at its least squares.

    The shapes choose the decoder, which has 12 million parameters at most. Activations with at least a quarter of the
    image's sides are decoded in place, by convolutions. Other small problems get a dense network, and large ones get
    convolutions that double the sides step by step. There a flat activation first passes a layer of low rank, and a
    transformer's tokens are put back on their grid. Large activations are read batch by batch where they lie.

    References
    ----------
    He, Zhang, Lee, "Model Inversion Attacks Against Collaborative Inference", ACSAC 2019, black-box setting.
    """

    name = "inversion"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.SERVER),
        sees=("activation",),
        knows=(Knows.SURROGATE, Knows.QUERIES),
    )
    target = Input
    options = InversionOptions

    def memory(self, sizes: Sizes) -> int:
        """Estimate the bytes that the decoder, its optimiser and one batch take."""
        import torch

        from adversary.attacks.harness.decoders import DenseDecoder
        from adversary.attacks.harness.progressive import build_decoder, footprint

        shapes = sizes.activation, sizes.image, self.settings.width
        with torch.device("meta"):
            decoder = build_decoder(*shapes, torch.empty(sizes.image))
        _, pairs, *_ = _DENSE if isinstance(decoder, DenseDecoder) else _LARGE
        return training_memory(sizes, *footprint(*shapes), pairs)

    def fit(self, knowledge: Knowledge) -> None:
        """Train the decoder on the attacker's pairs."""
        # torch is imported where it is used: listing attacks and probing attributes cost no import of it.
        import torch

        from adversary.attacks.harness.batches import Batches, Course, train
        from adversary.attacks.harness.device import best_device, rows_at_once, seeded
        from adversary.attacks.harness.progressive import build_decoder, footprint, parameters, token_grid

        device, held = best_device(), knowledge.held_out()
        activation, image = knowledge.seen.shape[1:], knowledge.inputs.shape[1:]
        self._range = float(knowledge.inputs.min()), float(knowledge.inputs.max())
        # A token's channels mean the same everywhere, as a picture's do.
        axes = (0, 1) if token_grid(activation, image) else (0, *range(2, knowledge.seen.ndim))
        self._pairs = Batches(knowledge.seen, knowledge.inputs, ~held, axes, device)
        self._at_once = rows_at_once(footprint(activation, image, self.settings.width)[1])
        own = np.flatnonzero(~held)
        with seeded(self.seed, device):
            mean = torch.from_numpy(knowledge.inputs).mean(0)
            self._decoder: Any = build_decoder(activation, image, self.settings.width, mean, self.settings.dropout)
            self.report |= {"decoder": type(self._decoder).__name__, "parameters": parameters(self._decoder)}
            self.report["device"] = str(device)
            self._decoder.to(device)
            examples, batch, usual, rise, longest = self._usual(own)
            epochs = self.settings.epochs or min(40, max(1, round(examples / len(own))))
            course = Course(epochs, batch, self.settings.learning_rate or usual, rise, longest, self._at_once)
            steps = Pace(epochs * math.ceil(len(own) / batch), self.deadline)
            self.report |= train(self._decoder, self._pairs, own, np.flatnonzero(held), course, steps, self.name)

    def guess(self, activations: Array) -> Array:
        """Rebuild inputs (n, *input_shape) from activations (n, *activation_shape)."""
        from adversary.attacks.harness.device import run_in_parts

        self._decoder.eval()
        guesses = np.empty((len(activations), *self._pairs.image), np.float32)
        for part, found in run_in_parts(
            lambda rows: self._decoder(self._pairs.standard(rows)), activations, self._at_once
        ):
            guesses[part] = found.clamp(*self._range).cpu().numpy()
        return guesses

    def _usual(self, rows: Any) -> tuple[int, int, float, float, float]:
        """Return how such a decoder is trained; the linear path of a local one is set to the least squares of rows."""
        from adversary.attacks.harness.decoders import DenseDecoder, LocalDecoder

        if isinstance(self._decoder, DenseDecoder):
            examples, batch, peak, rise, longest = _DENSE
            # The best rate of a dense decoder shrinks with its fan-in.
            fan_in = min(1.0, (32 / math.prod(self._pairs.activation)) ** 0.25)
            return examples, batch, peak * fan_in, rise, longest
        if not isinstance(self._decoder, LocalDecoder):
            return _LARGE
        some = rows[: self._decoder.linear_pairs(self._pairs.activation)]
        started = self._decoder.start_linear(self._pairs.activations(some), self._pairs.inputs(some))
        if not started:
            return _LOCAL
        examples, batch, peak, rise, longest = _FROM_LEAST_SQUARES
        # So does that of convolutions: at the full rate, a fan-in of 1,152 lost what least squares had given.
        fan_in = max(layer.weight[0].numel() for layer in (self._decoder.inner, self._decoder.outer))
        return examples, batch, peak * min(1.0, _FAN_IN / fan_in), rise, longest
