"""Member-shadow: compare a record's loss with its loss in trainings that never saw the record."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.pace import shown
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel
from adversary.attacks.harness.update_attack import ModelAttack
from adversary.attacks.updates.members import ANYWHERE, UNIT, Unit, confidence, last_models, records
from adversary.attacks.updates.shadows import Shadows
from wireleak.common.targets.member import Member


class MemberShadowOptions(BaseModel):
    """Settings of `MemberShadow`."""

    model_config = ConfigDict(extra="forbid")
    shadows: int = Field(8, ge=2, le=256, description="Trainings that the attacker simulates on its own data.")
    unit: Unit = Field("record", description=UNIT)


@register
class MemberShadow(ModelAttack):
    """Simulate the whole federated training on the attacker's own data; members have a lower loss in the real model.

    Each shadow training has the same number of clients and examples, drawn from the surrogate for each shadow, and the
    public recipe. It starts from the first global model if that was seen, else from weights of its own. The attacker
    uses the same part of it as of the real training: the clients' last updates, the others' mean, or the released
    model. No shadow saw the records. The score is how far a record's log-odds lie above their mean over the shadows, in
    standard deviations. This is a variant of the offline likelihood ratio attack; `member-lira` has the exact
    form. It differs in two ways: a record's variance is averaged with that of all records, and where no client
    is asked about, each client's model is compared on its own, and the largest score counts. Streams of new examples in
    every round are not imitated: shadows keep their shards.

    References
    ----------
    Carlini, Chien, Nasr, Song, Terzis, Tramèr, "Membership Inference Attacks From First Principles", S&P 2022,
    section VI (offline); Watson et al., "On the Importance of Difficulty Calibration", ICLR 2022.
    """

    name = "member-shadow"
    threat = ThreatModel(
        vantage=ANYWHERE,
        sees=("global-model",),
        knows=(Knows.SURROGATE, Knows.ARCHITECTURE),
    )
    target = Member
    options = MemberShadowOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Train the shadows, and compute each one's confidence in the records."""
        seen, recipe = knowledge.trained()
        self._records = asked = records(knowledge, self.settings.unit)
        blocks, shadows = knowledge.network().blocks, Shadows(knowledge, self.seed)
        rng, models = np.random.default_rng([self.seed, 3]), last_models(seen)
        self._senders = tuple(models)
        self._target = confidence(blocks, list(models.values()), asked.x, asked.y)
        outside = []
        for number in shown(range(self.settings.shadows), f"{self.name}: shadows"):
            rows = rng.permutation(len(shadows.own))[: shadows.size]
            made = shadows.train(number, shadows.own.inputs[rows], shadows.own.labels[rows])
            outside.append(confidence(blocks, list(made.values()), asked.x, asked.y))
        self._outside = np.concatenate(outside)
        self.report |= {"shadows": len(outside), "examples": shadows.each, "wanted": recipe.examples}

    def guess(self, count: int) -> Array:
        """Return probabilities (count, 2) of the records."""
        mean, variance = self._outside.mean(0), self._outside.var(0)
        spread = np.sqrt((variance + variance.mean()) / 2) + 1e-6
        return self._records.probabilities(self._records.of((self._target - mean) / spread, self._senders))
