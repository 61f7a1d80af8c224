"""Member-shadow: compare a record's loss with its loss in trainings that never saw the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.harness.training import Recipe
from adversary.attacks.harness.update_attack import ModelAttack
from adversary.attacks.updates.members import confidence, last_models, probabilities, records
from wireleak.common.targets.member import Member
from wireleak.common.traffic import OTHERS

State = Mapping[str, npt.NDArray[Any]]


class MemberShadowOptions(BaseModel):
    """Settings of `MemberShadow`."""

    model_config = ConfigDict(extra="forbid")
    shadows: int = Field(8, ge=2, le=256, description="Trainings that the attacker simulates on its own data.")
    unit: Literal["record", "group"] = Field(
        "record", description="group: score people by the mean over their records; the records must name people."
    )


@register
class MemberShadow(ModelAttack):
    """Simulate the whole federated training on the attacker's own data; members have a lower loss in the real model.

    Each shadow training has the same number of clients and examples, drawn from the surrogate for each shadow, and the
    public recipe. It starts from the first global model if that was seen, else from weights of its own. The attacker
    uses the same part of it as of the real training: the clients' last updates, the others' mean, or the released
    model. No shadow saw the records, so this is the *offline* likelihood ratio attack: the score is how far a record's
    log-odds lie above their mean over the shadows, in standard deviations. With few shadows the estimate of a record's
    own variance is poor, so it is averaged with that of all records. Streams of new examples in every round are not
    imitated: shadows keep their shards.

    References
    ----------
    Carlini, Chien, Nasr, Song, Terzis, Tramèr, "Membership Inference Attacks From First Principles", S&P 2022,
    section VI (offline); Watson et al., "On the Importance of Difficulty Calibration", ICLR 2022.
    """

    name = "member-shadow"
    threat = ThreatModel(
        vantage=(
            Vantage.LINK,
            Vantage.SERVER,
            Vantage.PARTICIPANT,
            Vantage.MALICIOUS_PARTICIPANT,
            Vantage.RELEASE,
        ),
        sees=("global-model",),
        knows=(Knows.SURROGATE, Knows.ARCHITECTURE),
    )
    target = Member
    options = MemberShadowOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Train the shadows, and compute each one's confidence in the records."""
        seen, recipe = knowledge.training, knowledge.recipe
        assert seen is not None and recipe is not None
        own, blocks = knowledge.without_copies(), knowledge.network().blocks
        x, y, people = records(knowledge)
        if self.settings.unit == "group" and people is None:
            raise ValueError("options.unit: the records name no people; set data.disjoint_by, or set unit = record")
        self._people = people if self.settings.unit == "group" else None
        examples = min(recipe.examples, len(own) // recipe.participants)
        if not examples:
            raise ValueError(
                f"granted.surrogate: {len(own)} examples are too few for {recipe.participants} clients; grant more"
            )
        start = seen.models[1] if 1 in seen.models and seen.updates else None
        rng = np.random.default_rng([self.seed, 3])
        senders = sorted({one.sender for one in seen.updates})
        self._target = confidence(blocks, last_models(seen), x, y)
        outside = []
        for number in range(self.settings.shadows):
            rows = rng.permutation(len(own))[: recipe.participants * examples].reshape(recipe.participants, -1)
            shards = [(own.inputs[shard], own.labels[shard]) for shard in rows]
            first = start or _fresh(knowledge, self.seed + 1 + number)
            made = _federated(blocks, first, shards, recipe, (self.seed, number))
            outside.append(confidence(blocks, _as_seen(*made, senders, recipe), x, y))
        self._outside = np.concatenate(outside)
        self.report |= {"shadows": len(outside), "examples": examples, "wanted": recipe.examples}

    def guess(self, count: int) -> Array:
        """Return probabilities (count, 2) of the records."""
        mean, variance = self._outside.mean(0), self._outside.var(0)
        spread = np.sqrt((variance + variance.mean()) / 2) + 1e-6
        return probabilities(((self._target - mean) / spread).max(0), self._people)


def _federated(
    blocks: Any, start: State, shards: list[tuple[Array, npt.NDArray[np.int64]]], recipe: Recipe, seed: tuple[int, int]
) -> tuple[State, list[State]]:
    """Train one shadow; return the last global model and each client's model of the last round."""
    import torch

    from wireleak.common.models.training import Training, train_whole

    ends: list[State] = []
    for number in range(1, recipe.plan.rounds + 1):
        ends = []
        for place, (inputs, labels) in enumerate(shards):
            blocks.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in start.items()})
            order = (*seed, number, place)
            how = Training(recipe.plan, order)
            train_whole(blocks, inputs, labels, how)
            ends.append({name: value.numpy().copy() for name, value in blocks.state_dict().items()})
        start = _mean(ends)
    return start, ends


def _as_seen(final: State, ends: list[State], senders: list[int], recipe: Recipe) -> list[State]:
    """Return the models of a shadow training that the attacker would see from its vantage."""
    if not senders:
        return [final]
    if senders == [OTHERS]:
        return [_mean([end for place, end in enumerate(ends) if place != recipe.own])]
    return [end for place, end in enumerate(ends) if place in senders]


def _mean(states: list[State]) -> State:
    return {name: np.mean([one[name] for one in states], 0).astype(value.dtype) for name, value in states[0].items()}


def _fresh(knowledge: Knowledge, seed: int) -> State:
    assert knowledge.model is not None
    blocks = knowledge.model.model_copy(update={"seed": seed}).network().blocks
    return {name: value.numpy() for name, value in blocks.state_dict().items()}
