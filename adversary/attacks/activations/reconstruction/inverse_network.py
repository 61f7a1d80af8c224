"""Black box: He et al.'s inverse network, transposed convolutions from activation to input."""

from __future__ import annotations

import math

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.activations.reconstruction.transposed import transposed_decoder
from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.pace import Pace, shown
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.input import Input
from wireleak.common.targets.memory import Sizes, training_memory

_BATCH, _AT_ONCE = 32, 32


class InverseNetworkOptions(BaseModel):
    """Settings of `InverseNetwork`."""

    model_config = ConfigDict(extra="forbid")
    epochs: int = Field(
        50, ge=1, le=10_000, description="Passes over the pairs; the learning rate is halved after 2/5 and 4/5 of them."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Adam's first step size; by default .01, or .001 where large or dense.",
    )


@register
class InverseNetwork(ActivationAttack):
    """Rebuild inputs with the inverse network that He et al. train from queries, as they trained it.

    Their decoders for LeNet are one 5x5 convolution at conv1 and two transposed ones (16 to 8 to 1 channels) at ReLU2.
    Other shapes get similar decoders (transposed convolutions that double the sides, as their CIFAR decoders); flat
    activations get a perceptron. The loss is the mean squared error of inputs scaled to [-1, 1]; the optimiser is Adam
    with AMSGrad, in batches of 32. The step size is ten times theirs (.001), because we take a fortieth of their steps;
    it was chosen on held-out queries. `inversion` is our own decoder for this setting.

    References
    ----------
    He, Zhang, Lee, "Model Inversion Attacks Against Collaborative Inference", ACSAC 2019, section 5.
    """

    name = "inverse-network"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.SERVER),
        sees=("activation",),
        knows=(Knows.SURROGATE, Knows.QUERIES),
    )
    target = Input
    options = InverseNetworkOptions

    def memory(self, sizes: Sizes) -> int:
        """Estimate the bytes that the decoder, its optimiser, one batch, and the scaled inputs take."""
        import torch

        with torch.device("meta"):
            count = sum(one.numel() for one in transposed_decoder(sizes.activation, sizes.image).parameters())
        return training_memory(sizes, count) + 4 * sizes.pairs * math.prod(sizes.image)

    def fit(self, knowledge: Knowledge) -> None:
        """Train the decoder on the attacker's pairs, and report its error on a held-out sixth."""
        import torch

        from adversary.attacks.harness.device import best_device
        from adversary.attacks.harness.progressive import is_careful

        device = best_device()
        low, high = self._range = knowledge.input_range
        z = torch.from_numpy(knowledge.seen).to(device)
        x = (torch.from_numpy(knowledge.inputs).to(device) - low) / max(high - low, 1e-12) * 2 - 1
        held = knowledge.held_out()
        with torch.random.fork_rng(devices=None if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            self._decoder = transposed_decoder(tuple(z.shape[1:]), tuple(x.shape[1:])).to(device)
        self._image = knowledge.inputs.shape[1:]
        epochs, rows = self.settings.epochs, np.flatnonzero(~held)
        rate = self.settings.learning_rate or (1e-3 if is_careful(self._decoder) else 1e-2)
        optimiser = torch.optim.Adam(self._decoder.parameters(), rate, amsgrad=True)
        halving = torch.optim.lr_scheduler.StepLR(optimiser, max(1, epochs * 2 // 5), 0.5)
        each = math.ceil(len(rows) / _BATCH)
        pace = Pace(epochs * each, self.deadline)
        rng = np.random.default_rng([self.seed, 1])
        for _ in shown(range(epochs), "inverse-network"):
            order = rng.permutation(rows)
            for batch in (order[i : i + _BATCH] for i in range(0, len(order), _BATCH)):
                optimiser.zero_grad()
                torch.autograd.backward(torch.nn.functional.mse_loss(self._decoder(z[batch]), x[batch]))
                optimiser.step()
                if pace.step():
                    halving.step_size = max(1, math.ceil(pace.allowed / each) * 2 // 5)
                if pace.over:
                    break
            halving.step()
            if pace.over:
                break
        self.report |= {"parameters": sum(p.numel() for p in self._decoder.parameters()), "stopped": pace.stopped}
        if held.any():
            error = float(np.mean((self.guess(knowledge.seen[held]) - knowledge.inputs[held]) ** 2))
            self.report["validation_mse"] = error

    def guess(self, activations: Array) -> Array:
        """Rebuild inputs (n, *input_shape) from activations (n, *activation_shape)."""
        import torch

        from adversary.attacks.harness.device import run_in_parts

        low, high = self._range
        device = next(self._decoder.parameters()).device
        guesses = np.empty((len(activations), *self._image), np.float32)
        for part, found in run_in_parts(
            lambda rows: self._decoder(torch.from_numpy(rows).to(device)), activations, _AT_ONCE
        ):
            guesses[part] = (low + (found.clamp(-1, 1).cpu() + 1) / 2 * (high - low)).numpy()
        return guesses
