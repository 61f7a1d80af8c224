"""Inversion: a decoder from activation to input, trained on the attacker's own queries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.pace import Pace, shown
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.input import Input
from wireleak.common.targets.memory import Sizes, training_memory

# Pairs in a step of a dense decoder, and of others at most.
_BATCH, _FEWER = 64, 32


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
        None,
        gt=0,
        le=1,
        description="Peak of the OneCycle schedule; by default 0.0065 (local) or at most 0.003.",
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
        pairs = _BATCH if isinstance(decoder, DenseDecoder) else _FEWER
        return training_memory(sizes, *footprint(*shapes), pairs)

    def fit(self, knowledge: Knowledge) -> None:
        """Train the decoder on the attacker's pairs."""
        # torch is imported where it is used: listing attacks and probing attributes cost no import of it.
        import torch

        from adversary.attacks.harness.batches import Batches
        from adversary.attacks.harness.device import best_device, rows_at_once, seeded
        from adversary.attacks.harness.progressive import build_decoder, footprint, parameters, token_grid

        self._device, held = best_device(), knowledge.held_out()
        activation, image = knowledge.seen.shape[1:], knowledge.inputs.shape[1:]
        self._range = float(knowledge.inputs.min()), float(knowledge.inputs.max())
        # A token's channels mean the same everywhere, as a picture's do.
        axes = (0, 1) if token_grid(activation, image) else (0, *range(2, knowledge.seen.ndim))
        self._pairs = Batches(knowledge.seen, knowledge.inputs, ~held, axes, self._device)
        self._at_once = rows_at_once(footprint(activation, image, self.settings.width)[1])
        with seeded(self.seed, self._device):
            mean = torch.from_numpy(knowledge.inputs).mean(0)
            self._decoder: Any = build_decoder(activation, image, self.settings.width, mean, self.settings.dropout)
            self.report |= {"decoder": type(self._decoder).__name__, "parameters": parameters(self._decoder)}
            self.report["device"] = str(self._device)
            self._decoder.to(self._device)
            self._train(np.flatnonzero(~held), np.flatnonzero(held))

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

    def _train(self, rows: Any, held: Any) -> None:
        import torch

        from adversary.attacks.harness.decoders import DenseDecoder, LocalDecoder
        from adversary.attacks.harness.device import step_in_parts

        # Examples, pairs in a step, peak of the learning rate and the share of steps before it, chosen on attackers'
        # own held-out pairs. A dense decoder's steps shrink with its fan-in.
        examples, batch, usual, rise, longest = 30_000, _FEWER, 0.003, 0.2, math.inf
        if isinstance(self._decoder, DenseDecoder):
            fan_in = min(1.0, (32 / math.prod(self._pairs.activation)) ** 0.25)
            examples, batch, usual = 50_000, _BATCH, 0.003 * fan_in
        elif isinstance(self._decoder, LocalDecoder):
            some = rows[: self._decoder.linear_pairs(self._pairs.activation)]
            started = self._decoder.start_linear(self._pairs.activations(some), self._pairs.inputs(some))
            examples, batch, usual, rise = (3_750, 8, 0.0065, 0.1) if started else (30_000, _FEWER, 0.01, 0.2)
            # At this rate one step in some thousands had a gradient a hundred times as long, and the fit was lost.
            longest = 0.1
        epochs = self.settings.epochs or min(40, max(1, round(examples / len(rows))))
        peak = self.settings.learning_rate or usual
        if len(self._pairs.activation) == 3:
            self._decoder.to(memory_format=torch.channels_last)
        optimiser = torch.optim.AdamW(self._decoder.parameters(), peak, fused=True)
        pace = Pace(epochs * math.ceil(len(rows) / batch), self.deadline)

        def one_cycle(steps: int) -> Any:
            # It divides by zero for fewer steps than ten.
            return torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=max(10, steps), pct_start=rise)

        schedule = one_cycle(pace.planned)

        def loss_of(some: Any) -> Any:
            return torch.nn.functional.mse_loss(self._decoder(self._pairs.activations(some)), self._pairs.inputs(some))

        best, weights, kept, parts = math.inf, self._decoder.state_dict(), 0, 1
        for epoch in shown(range(epochs), "inversion: training"):
            self._decoder.train()
            order = rows[torch.randperm(len(rows)).numpy()]
            for start in range(0, len(order), batch):
                parts = step_in_parts(optimiser, loss_of, order[start : start + batch], parts, longest)
                schedule.step()
                if pace.step():
                    schedule = one_cycle(pace.left)
                if pace.over:
                    break
            error = self._error(held)
            if error < best or not len(held):
                best, kept = error, epoch + 1
                weights = {name: value.clone() for name, value in self._decoder.state_dict().items()}
            if pace.over:
                break
        self._decoder.load_state_dict(weights)
        self.report |= {"epochs": epochs, "kept_epoch": kept, "validation_mse": best if len(held) else None}
        self.report["held_out_loss"] = self.report["validation_mse"]
        self.report["stopped"] = pace.stopped

    def _error(self, held: Any) -> float:
        """Return the mean squared error on held-out rows; infinite without any."""
        import torch

        from adversary.attacks.harness.device import run_in_parts

        self._decoder.eval()
        squares, count = 0.0, 0
        for part, found in run_in_parts(lambda rows: self._decoder(self._pairs.activations(rows)), held, self._at_once):
            squares += float((found - self._pairs.inputs(held[part])).square().sum(dtype=torch.float64))
            count += found.numel()
        return squares / count if count else math.inf
