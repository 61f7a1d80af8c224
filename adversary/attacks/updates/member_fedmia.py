"""Member-fedmia: a record's own client fits it better than all other clients do, round after round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.harness.training import Update
from adversary.attacks.harness.update_attack import ModelAttack
from adversary.attacks.updates.members import UNIT, Doubles, Ints, State, Unit, confidence, fits, records
from wireleak.common.targets.member import Member

if TYPE_CHECKING:
    from torch import nn

_FEWEST = 3  # clients: the others' spread needs two of them
_LEAST = 1e-6  # of a standard deviation: the others may measure the same
_NUMBERS = 16_000_000  # of the gradients that are held at once: 64 MB


class MemberFedmiaOptions(BaseModel):
    """Settings of `MemberFedmia`."""

    model_config = ConfigDict(extra="forbid")
    measure: Literal["loss", "cosine"] = Field(
        "cosine",
        description="loss: of the client's model; cosine: between a record's gradient and the client's update.",
    )
    unit: Unit = Field("record", description=UNIT)


@register
class MemberFedmia(ModelAttack):
    """Guess that a record is a member if, over the rounds, one client's updates fit it better than the others' do.

    In each round every client's update is measured on the record. A client's measure is compared with the normal
    distribution that is fitted to the other clients': these did not train on the record. The score of a client is the
    mean over rounds of the probability that the others measure less. The record's score is that of the client that is
    asked about, or else of its best client. No shadow is trained, and no data are needed. The measure is the confidence
    of the client's model in the label, as log-odds (FedMIA-I). Or it is the cosine between the record's gradient at the
    round's first model and the client's update, which goes against it (FedMIA-II).

    Zhu et al. ask about a given client. Where a study asks whether any client has the record, the attack is weak: of
    several clients, one fits any record best.

    References
    ----------
    Zhu, Li, Gu, Yao, Fan, Han, "FedMIA: An Effective Membership Inference Attack Exploiting 'All for One' Principle in
    Federated Learning", CVPR 2025.
    """

    name = "member-fedmia"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.SERVER),
        sees=("global-model", "model-update"),
        knows=(Knows.ARCHITECTURE,),
    )
    target = Member
    options = MemberFedmiaOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Measure each client's update of each round on each record."""
        seen, _ = knowledge.trained()
        self._records = asked = records(knowledge, self.settings.unit)
        blocks = knowledge.network().blocks
        usable = [one for one in seen.updates if fits(one)]
        rounds = [[one for one in usable if one.round == number] for number in sorted({one.round for one in usable})]
        rounds = [updates for updates in rounds if len(updates) >= _FEWEST]
        if not rounds:
            raise ValueError(
                f"captures: member-fedmia compares the updates of {_FEWEST} or more clients in a round, and there are "
                "fewer; choose another attack"
            )
        self._senders = [[one.sender for one in updates] for updates in rounds]
        if self.settings.measure == "loss":
            self._measures = [confidence(blocks, [one.end for one in updates], asked.x, asked.y) for updates in rounds]
        else:
            self._measures = [cosines(blocks, updates, asked.x, asked.y) for updates in rounds]
        self.report |= {"rounds": len(rounds), "updates": len(usable)}

    def guess(self, count: int) -> Array:
        """Return probabilities (count, 2) of the records."""
        found: dict[int, list[Doubles]] = {}
        for senders, measured in zip(self._senders, self._measures, strict=True):
            for sender, score in zip(senders, below_others(measured), strict=True):
                found.setdefault(sender, []).append(score)
        means = np.stack([np.mean(scores, 0) for scores in found.values()])
        return self._records.probabilities(self._records.of(means, found))


def below_others(measured: Doubles) -> Doubles:
    """Return for each client (clients, n) the probability that the other clients measure less on each record."""
    from scipy.stats import norm

    others = [np.delete(measured, client, 0) for client in range(len(measured))]
    return np.stack(
        [norm.cdf(own, rest.mean(0), rest.std(0) + _LEAST) for own, rest in zip(measured, others, strict=True)]
    )


def cosines(blocks: nn.Module, updates: Sequence[Update], x: Array, y: Ints) -> Doubles:
    """Return the cosine between each update and each record's descent direction at the start, (updates, n)."""
    import torch

    names = [name for name, _ in blocks.named_parameters()]
    changes = [torch.cat([torch.from_numpy(np.array(one.delta[name])).flatten() for name in names]) for one in updates]
    directions = torch.nn.functional.normalize(torch.stack(changes))
    parts = [
        (-torch.nn.functional.normalize(gradients) @ directions.T).double().numpy()
        for gradients in _gradients(blocks, updates[0].start, x, y)
    ]
    return np.concatenate(parts).T


def _gradients(blocks: nn.Module, start: State, x: Array, y: Ints) -> Iterator[Any]:
    """Yield the gradients (rows, weights) of the loss of some records after others, with respect to all weights."""
    import torch
    from torch.func import functional_call, grad, vmap
    from torch.nn.functional import cross_entropy

    blocks.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in start.items()})
    blocks.eval()
    weights = {name: weight.detach() for name, weight in blocks.named_parameters()}

    def loss(now: dict[str, torch.Tensor], one: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return cross_entropy(functional_call(blocks, now, (one[None],)), label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    rows = max(1, _NUMBERS // sum(weight.numel() for weight in weights.values()))
    for at in range(0, len(x), rows):
        found = each(weights, torch.from_numpy(x[at : at + rows]), torch.from_numpy(y[at : at + rows]))
        yield torch.cat([found[name].flatten(1) for name in weights], 1)
