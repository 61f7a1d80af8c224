"""Member-rebound: the others' training lowers the loss of their own records more than that of other records."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.pace import shown
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.harness.update_attack import ModelAttack
from adversary.attacks.updates.members import UNIT, Doubles, State, Unit, confidence, fits, records
from adversary.attacks.updates.shadows import federated
from wireleak.common.targets.member import Member

if TYPE_CHECKING:
    from adversary.attacks.harness.training import Recipe


class MemberReboundOptions(BaseModel):
    """Settings of `MemberRebound`."""

    model_config = ConfigDict(extra="forbid")
    imitations: int = Field(
        2,
        ge=0,
        description="Trainings a round of the attacker's own that are subtracted; 0 subtracts the round's first model.",
    )
    unit: Unit = Field("record", description=UNIT)


@register
class MemberRebound(ModelAttack):
    """Guess that a record is a member if, round after round, the others' training made the model surer of its label.

    A participant knows the model at a round's start, and the mean of the others' at its end. The score is the log-odds
    of the record's label under that mean, minus those under imitations, mean over rounds. An imitation starts from the
    same model and trains as the others do, on examples of the attacker's. It goes through the same model and learns the
    task as well, so that it takes away how hard a record is, and how much of a loss any training would win back. The
    difference is due to the record itself.

    A malicious participant raises the loss of the records before (strategy `gradient-ascent`), and this reads the
    rebound. With an honest participant it is a passive attack. Nasr et al. give the losses and gradients of several
    rounds to a network that learns from known members; this attack knows no member. The server must take the mean.

    References
    ----------
    Nasr, Shokri, Houmansadr, "Comprehensive Privacy Analysis of Deep Learning: Passive and Active White-box Inference
    Attacks against Centralized and Federated Learning", S&P 2019; Watson et al., "On the Importance of Difficulty
    Calibration", ICLR 2022, for the subtraction.
    """

    name = "member-rebound"
    threat = ThreatModel(
        vantage=(Vantage.PARTICIPANT, Vantage.MALICIOUS_PARTICIPANT),
        sees=("global-model", "model-update"),
        knows=(Knows.SURROGATE, Knows.ARCHITECTURE),
    )
    target = Member
    options = MemberReboundOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Compute each record's rebound of each round."""
        seen, recipe = knowledge.trained()
        self._records = asked = records(knowledge, self.settings.unit)
        blocks, usable = knowledge.network().blocks, [one for one in seen.updates if fits(one)]
        if not usable:
            raise ValueError("captures: no round was seen with both its models; attack a training of one round or more")
        rebounds = []
        for one in usable:
            without = self._imitated(knowledge, recipe, one.start, one.round)
            odds = confidence(blocks, [one.end, *without], asked.x, asked.y)
            rebounds.append(odds[0] - odds[1:].mean(0))
        self._score: Doubles = np.mean(rebounds, 0)
        self.report |= {"rounds": len(usable), "imitations": self.settings.imitations}

    def guess(self, count: int) -> Array:
        """Return probabilities (count, 2) of the records."""
        return self._records.probabilities(self._score)

    def _imitated(self, knowledge: Knowledge, recipe: Recipe, start: State, number: int) -> list[State]:
        """Return means of as many clients as the others are, that trained one round on examples of the attacker's."""
        own, blocks = knowledge.without_copies(), knowledge.network().blocks
        others = recipe.participants - 1
        each = min(recipe.examples, len(own) // others)
        if not each:
            raise ValueError(f"granted.surrogate: {len(own)} examples are too few for {others} clients; grant more")
        one_round = replace(recipe, plan=recipe.plan.model_copy(update={"rounds": 1}))
        means = []
        for draw in shown(range(self.settings.imitations), f"{self.name}: imitations"):
            rng = np.random.default_rng([self.seed, number, draw])
            rows = rng.permutation(len(own))[: others * each].reshape(others, each)
            shards = [(part.inputs, part.labels) for part in map(own.take, rows)]
            means.append(federated(blocks, start, shards, one_round, (self.seed + draw, number))[0])
        return means or [start]
