"""Property inference in split training: whether the data behind an update of the encoder have a property."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.updates.imitation import Imitation, Ints
from adversary.attacks.updates.property import Property, PropertyOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

# The attacker's own head learns by Adam: so many batches on each new encoder. It goes on from one encoder to the next.
_STEPS, _BATCH, _RATE = 40, 64, 3e-3


class EncoderImitation(Imitation):
    """Imitates the training of an encoder, with a head of the attacker's own in place of the service's.

    The head learns the task from the attacker's examples, on each encoder that is a start.

    Parameters
    ----------
    knowledge, seed, by_group
        As for `Imitation`.
    poison : float
        Share of the head's examples that have their value of the attribute as the label.
    """

    def __init__(self, knowledge: Knowledge, seed: int, *, by_group: bool = False, poison: float = 0.0) -> None:
        super().__init__(knowledge, seed, by_group=by_group)
        self._poison = poison
        self._adapted: Mapping[str, npt.NDArray[Any]] | None = None
        if poison and max(self.values) >= self._classes:
            raise ValueError(
                f"options.poison: the attribute has a value {max(self.values)}, but the task only {self._classes} "
                "labels to name it; set poison = 0"
            )

    def _part(self, known: Knowledge) -> nn.Module:
        import torch

        assert known.model is not None  # network() refuses to go on without it
        if self._recipe.privacy is not None:
            raise ValueError("training.privacy: property-split imitates no DP-SGD; attack a training without it")
        self._classes = known.model.classes
        encoder, self._head = known.network().split(known.model.cut)
        self._adam = torch.optim.Adam(self._head.parameters(), lr=_RATE)
        return encoder

    def _train(self, inputs: Array, labels: Ints, seed: tuple[int, ...]) -> None:
        from torch.nn.functional import cross_entropy

        from wireleak.common.models.training import Training, train_whole

        def loss(encoder: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            return cross_entropy(self._head(encoder(x)), y)

        train_whole(self._trains, inputs, labels, Training(self._recipe.plan, seed), loss)

    def _trained(
        self, start: Mapping[str, npt.NDArray[Any]], value: int, share: float
    ) -> tuple[dict[str, Array], Ints]:
        if start is not self._adapted:
            self._adapt(start)
            self._adapted = start
        return super()._trained(start, value, share)

    def _adapt(self, start: Mapping[str, npt.NDArray[Any]]) -> None:
        """Train the head on the task behind an encoder that stays as it is."""
        import torch

        self._trains.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in start.items()})
        self._head.requires_grad_(True).train()
        for _ in range(_STEPS):
            rows = self._rng.choice(len(self._inputs), _BATCH)
            labels = self._labels[rows]
            poisoned = np.array_split(np.arange(round(self._poison * _BATCH)), len(self.values))
            for value, places in zip(self.values, poisoned, strict=True):
                rows[places], labels[places] = self._some(value, len(places)), value
            with torch.no_grad():
                activations = self._trains(torch.from_numpy(self._inputs[rows]))
            self._adam.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(self._head(activations), torch.from_numpy(labels)).backward()
            self._adam.step()
        self._head.requires_grad_(False)


class PropertySplitOptions(PropertyOptions):
    """Settings of `PropertySplit`."""

    poison: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of examples that the head sees with the property as their label. The attacker knows what it "
        "sent: its strategy's share, divided by the number of clients. Its own head learns from as many.",
    )


@register
class PropertySplit(Property):
    """Infer whether the data behind an encoder's update have a property, with a classifier of the attacker's updates.

    A participant of split training gets the averaged encoder in every round, so it knows the mean update of the others'
    encoders. The head stays with the service. The attacker trains a head of its own on the encoders of some rounds, and
    imitates clients that train with it; the rest is as in `property`. It reads none of the others' activations.

    Deviations: the imitated head is not the service's, and it does not change between a client's batches.

    References
    ----------
    Melis, Song, De Cristofaro, Shmatikov, "Exploiting Unintended Feature Leakage in Collaborative Learning", S&P 2019,
    algorithm 3, moved to split training (Thapa et al., "SplitFed", AAAI 2022). The own head is as in Gao, Zhang,
    "PCAT: Functionality and Data Stealing from Split Learning by Pseudo-Client Attack", USENIX Security 2023, with the
    parts of client and server exchanged.
    """

    name = "property-split"
    mode = "split"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.PARTICIPANT, Vantage.MALICIOUS_PARTICIPANT),
        sees=("global-model", "model-update"),
        knows=(Knows.SURROGATE, Knows.ARCHITECTURE),
    )
    options = PropertySplitOptions

    def _imitation(self, knowledge: Knowledge) -> Imitation:
        settings = self.settings
        return EncoderImitation(knowledge, self.seed, by_group=settings.by_group, poison=settings.poison)
