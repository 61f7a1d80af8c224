"""Shadow: train a copy of the unknown encoder, then search the input through that copy."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from pydantic import Field

from adversary.attacks.activations.reconstruction.search import SearchOptions, invert
from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.pace import shown
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.input import Input

_BATCH = 32


class ShadowOptions(SearchOptions):
    """Settings of the shadow's training, and of the search through it, which needs more smoothing than `rmle`'s."""

    tv: float = Field(2.0, ge=0, description="Weight of the total variation; 2 in the authors' code.")
    epochs: int = Field(30, ge=1, le=10_000, description="Passes over the attacker's data; 50 in the authors' code.")
    shadow_learning_rate: float = Field(
        1e-3, gt=0, le=1, description="First learning rate; halved after every sixth of the epochs."
    )


class ShadowQueryOptions(ShadowOptions):
    """Settings of `ShadowQuery`, whose shadow is close to the encoder and needs no more smoothing than `rmle`."""

    tv: float = Field(0.05, ge=0, description="Weight of the total variation; use 0 if the cut keeps all information.")
    shadow_learning_rate: float = Field(
        1e-2, gt=0, le=1, description="First learning rate; halved after every sixth of the epochs."
    )


class _Shadow(ActivationAttack):
    """Base of both attacks: train a fresh encoder of the known architecture, then invert it as `rmle` does."""

    target = Input
    options = ShadowOptions

    @abstractmethod
    def _losses(self, knowledge: Knowledge) -> tuple[Any, Any]:
        """Return the training targets (n, ...) and the loss(activations, targets) that the shadow minimises."""

    def fit(self, knowledge: Knowledge) -> None:
        """Train the shadow on the attacker's data, and report its loss on a held-out sixth."""
        import torch

        from adversary.attacks.harness.device import best_device

        self._device = best_device()
        network, cut = knowledge.fresh_network(self.seed)
        self._encoder = network.split(cut)[0].to(self._device)
        self._shape, self._range = network.input_shape, knowledge.input_range
        targets, loss = self._losses(knowledge)
        inputs, held = torch.from_numpy(knowledge.inputs).to(self._device), knowledge.held_out()
        mine, check = np.flatnonzero(~held), np.flatnonzero(held)
        optimiser = torch.optim.Adam(self._encoder.parameters(), self.settings.shadow_learning_rate, amsgrad=True)
        halving = torch.optim.lr_scheduler.StepLR(optimiser, max(1, self.settings.epochs // 6), 0.5)
        rng = np.random.default_rng([self.seed, 1])
        self._encoder.train()
        epochs = range(self.settings.epochs)
        for _ in shown(epochs, f"{self.name}: training"):
            order = rng.permutation(mine)
            for rows in (order[i : i + _BATCH] for i in range(0, len(order), _BATCH)):
                optimiser.zero_grad()
                torch.autograd.backward(loss(self._encoder(inputs[rows]), targets[rows]))
                optimiser.step()
            halving.step()
        self._encoder.eval()
        if len(check):
            with torch.no_grad():
                self.report["validation_loss"] = float(loss(self._encoder(inputs[check]), targets[check]))

    def guess(self, activations: Array) -> Array:
        """Rebuild inputs (n, *input_shape) from activations (n, *activation_shape) through the shadow."""
        guesses, residual = invert(self._encoder, activations, self._shape, self._range, self.settings, self.seed)
        self.report["residual"] = residual
        return guesses


@register
class Shadow(_Shadow):
    """Without queries: train an encoder for the service's own head on the attacker's data, then invert it.

    The head is frozen. It pulls the shadow's activations to where the victims' encoder would put them, but only as far
    as the task needs. The optimiser is Adam with AMSGrad, in batches of 32. The search is that of `rmle`.

    References
    ----------
    He, Zhang, Lee, "Model Inversion Attacks Against Collaborative Inference", ACSAC 2019, section 6 (query-free).
    """

    name = "shadow"
    threat = ThreatModel(
        vantage=(Vantage.SERVER,), sees=("activation",), knows=(Knows.SURROGATE, Knows.ARCHITECTURE, Knows.HEAD)
    )

    def _losses(self, knowledge: Knowledge) -> tuple[Any, Any]:
        import torch

        from wireleak.common.models import load_weights

        if knowledge.model is None or knowledge.head is None:
            raise ValueError("granted.head: shadow needs the head's weights; grant them, or use shadow-query")
        _, head = knowledge.network().split(knowledge.model.cut)
        load_weights(head, knowledge.head)
        head.to(self._device).eval().requires_grad_(False)
        labels = torch.from_numpy(knowledge.labels).to(self._device)
        return labels, lambda activations, y: torch.nn.functional.cross_entropy(head(activations), y)


@register
class ShadowQuery(_Shadow):
    """With queries: train an encoder that imitates the victims' on the attacker's own inputs, then invert it.

    The loss is the mean squared error of activations; the optimiser is Adam with AMSGrad, in batches of 32. The search
    is that of `rmle`.

    References
    ----------
    He, Zhang, Lee, "Model Inversion Attacks Against Collaborative Inference", ACSAC 2019, table 8 (shadow by query).
    """

    name = "shadow-query"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.SERVER),
        sees=("activation",),
        knows=(Knows.SURROGATE, Knows.QUERIES, Knows.ARCHITECTURE),
    )
    options = ShadowQueryOptions

    def _losses(self, knowledge: Knowledge) -> tuple[Any, Any]:
        import torch

        return torch.from_numpy(knowledge.seen).to(self._device), torch.nn.functional.mse_loss
