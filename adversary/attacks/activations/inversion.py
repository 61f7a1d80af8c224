"""Inversion: a decoder from activation to input, trained on the attacker's own queries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.progress import track

from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.input import Input


class InversionOptions(BaseModel):
    """Settings of `Inversion`."""

    model_config = ConfigDict(extra="forbid")
    epochs: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Passes over the pairs; by default enough for 3,750 (local decoder) or 50,000 (dense) examples.",
    )
    width: float = Field(1.0, gt=0, le=64, description="Factor for the number of the decoder's hidden units.")
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Peak of the OneCycle schedule; by default 0.005 (local) or at most 0.003 (dense).",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout of a dense decoder's hidden units.")


@register
class Inversion(ActivationAttack):
    """Rebuild a victim's input from the activation that its device sent.

    The attacker owns a device of the same service, so it can send inputs of its choice and capture their activations:
    its training pairs come from the wire. The decoder minimises the mean squared error with AdamW under a OneCycle
    schedule, and the best epoch on the attacker's held-out pairs is kept. Activations are standardised, and guesses are
    clipped to the range of the attacker's inputs. The linear path of a local decoder starts at its least squares.

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

    def fit(self, knowledge: Knowledge) -> None:
        """Train the decoder on the attacker's pairs."""
        # torch is imported where it is used: listing attacks and probing attributes cost no import of it.
        import torch

        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        held = knowledge.held_out()
        axes = (0, *range(2, knowledge.seen.ndim))
        self._centre = knowledge.seen[~held].mean(axes, keepdims=True)
        self._scale = knowledge.seen[~held].std(axes, keepdims=True) + 1e-6
        self._range = float(knowledge.inputs.min()), float(knowledge.inputs.max())
        z, x = self._tensor(knowledge.seen), torch.from_numpy(knowledge.inputs).to(self._device)
        mask = torch.from_numpy(held).to(self._device)
        with torch.random.fork_rng(devices=None if self._device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            self._decoder, local = self._build(z, x)
            self._train(z[~mask], x[~mask], z[mask], x[mask], local)

    def guess(self, activations: Array) -> Array:
        """Rebuild inputs (n, *input_shape) from activations (n, *activation_shape)."""
        import torch

        self._decoder.eval()
        with torch.no_grad():
            pieces = [
                self._decoder(self._tensor(activations[i : i + 256])).cpu() for i in range(0, len(activations), 256)
            ]
        guesses: Array = torch.cat(pieces).clamp(*self._range).contiguous().numpy()
        return guesses

    def _build(self, z: Any, x: Any) -> tuple[Any, bool]:
        from adversary.attacks.harness.decoders import DenseDecoder, LocalDecoder, upsampling

        activation, image, mean = tuple(z.shape[1:]), tuple(x.shape[1:]), x.mean(0)
        factor, width = upsampling(activation, image), self.settings.width
        if factor is None:
            decoder: Any = DenseDecoder(activation, image, width, mean, self.settings.dropout)
        else:
            decoder = LocalDecoder(activation, image, factor, width, mean)
        self.report |= {"decoder": type(decoder).__name__, "parameters": sum(p.numel() for p in decoder.parameters())}
        self.report["device"] = str(self._device)
        return decoder.to(self._device), factor is not None

    def _train(self, z: Any, x: Any, z_held: Any, x_held: Any, local: bool) -> None:
        import torch

        # Examples, pairs in a step, peak of the learning rate, chosen on attackers' own held-out pairs. A dense
        # decoder's steps shrink with its fan-in.
        examples, batch, usual = 50_000, 64, 0.003 * min(1.0, (32 / z[0].numel()) ** 0.25)
        if local:
            started = self._decoder.start_linear(z, x)
            examples, batch, usual = (3_750, 8, 0.005) if started else (30_000, 32, 0.01)
        epochs = self.settings.epochs or min(40, max(1, round(examples / len(x))))
        peak = self.settings.learning_rate or usual
        if z.dim() == 4:
            z = z.contiguous(memory_format=torch.channels_last)
            self._decoder.to(memory_format=torch.channels_last)
        optimiser = torch.optim.AdamW(self._decoder.parameters(), peak, fused=True)
        steps = max(10, epochs * math.ceil(len(x) / batch))  # OneCycleLR divides by zero for fewer
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=steps, pct_start=0.2)
        best, weights, kept = math.inf, self._decoder.state_dict(), 0
        for epoch in track(range(epochs), "inversion: training", disable=not Console().is_terminal, transient=True):
            self._decoder.train()
            order = torch.randperm(len(x)).to(x.device)
            for rows in torch.split(order, batch):
                optimiser.zero_grad()
                loss = torch.nn.functional.mse_loss(self._decoder(z[rows]), x[rows])
                torch.autograd.backward(loss)
                optimiser.step()
                schedule.step()
            error = self._error(z_held, x_held)
            if error < best or not len(x_held):
                best, kept = error, epoch + 1
                weights = {name: value.clone() for name, value in self._decoder.state_dict().items()}
        self._decoder.load_state_dict(weights)
        self.report |= {"epochs": epochs, "kept_epoch": kept, "validation_mse": best if len(x_held) else None}
        self.report["held_out_loss"] = self.report["validation_mse"]

    def _error(self, z: Any, x: Any) -> float:
        import torch

        self._decoder.eval()
        with torch.no_grad():
            guesses = [self._decoder(z[i : i + 256]) for i in range(0, len(z), 256)]
            return float(torch.nn.functional.mse_loss(torch.cat(guesses), x)) if guesses else math.inf

    def _tensor(self, seen: Array) -> Any:
        import torch

        scaled: Array = ((seen - self._centre) / self._scale).astype(np.float32)
        return torch.from_numpy(scaled).to(self._device)
