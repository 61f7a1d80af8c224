"""Member-rmia: a member gains more confidence over reference trainings than other people's records do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.pace import shown
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel
from adversary.attacks.harness.update_attack import ModelAttack
from adversary.attacks.updates.members import ANYWHERE, UNIT, Doubles, Records, State, Unit, last_models, records
from adversary.attacks.updates.shadows import Shadows
from wireleak.common.targets.member import Member


class MemberRmiaOptions(BaseModel):
    """Settings of `MemberRmia`."""

    model_config = ConfigDict(extra="forbid")
    references: int = Field(2, ge=1, le=64, description="Reference trainings that the attacker simulates.")
    population: int = Field(
        2000, ge=10, description="Most own records that are compared with; no reference trains on them."
    )
    gamma: float = Field(2.0, gt=0, description="How many times likelier a record must be than one of the population.")
    a: float = Field(
        0.3, ge=0, le=1, description="Slope by which the probability without a record stands for that with it."
    )
    unit: Unit = Field("record", description=UNIT)


@register
class MemberRmia(ModelAttack):
    """Guess that a record is a member if its likelihood ratio exceeds that of many records of the population.

    Pr(x | model) is the probability of a record's own label in the asked client's model, or else the largest. Pr(x)
    is its mean over trainings with and without the record. The references have it in none, so this is the offline form:
    with it, the probability is taken as a Pr(x) + 1 - a, and Pr(x) becomes ((1 + a) Pr(x) + 1 - a) / 2. The score is
    the share of population records z for which Pr(x | model) / Pr(x) is at least gamma times Pr(z | model) / Pr(z).

    The population is a part of the attacker's own records on which no reference trains. Zarifzadeh et al. tune `a` on
    the references; here it is their value for CIFAR-10, and not tuned. References are trained as the shadows of
    `member-shadow`.

    References
    ----------
    Zarifzadeh, Liu, Shokri, "Low-Cost High-Power Membership Inference Attacks", ICML 2024, section 3 and appendix B.2.
    """

    name = "member-rmia"
    threat = ThreatModel(
        vantage=ANYWHERE,
        sees=("global-model",),
        knows=(Knows.SURROGATE, Knows.ARCHITECTURE),
    )
    target = Member
    options = MemberRmiaOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Train the references, and compute the probability of each record's and population record's label."""
        seen, _ = knowledge.trained()
        self._records = asked = records(knowledge, self.settings.unit)
        blocks, rng = knowledge.network().blocks, np.random.default_rng([self.seed, 5])
        own = knowledge.without_copies()
        order = rng.permutation(len(own))
        aside = np.isin(np.arange(len(own)), order[: min(self.settings.population, len(own) // 2)])
        population, references = own.take(aside), Shadows(own.take(~aside), self.seed)
        # The population's records are asked about clients too, in the same shares.
        clients = None if asked.clients is None else rng.choice(asked.clients, len(population))
        others = Records(population.inputs, population.labels, None, clients)

        def chances(models: Mapping[int, State]) -> tuple[Doubles, Doubles]:
            from scipy.special import expit

            return expit(asked.confidence(blocks, models)), expit(others.confidence(blocks, models))

        self._target = chances(last_models(seen))
        self._references = []
        for number in shown(range(self.settings.references), f"{self.name}: references"):
            rows = rng.permutation(len(references.own))[: references.size]
            models = references.train(number, references.own.inputs[rows], references.own.labels[rows])
            self._references.append(chances(models))
        self.report |= {"references": len(self._references), "population": len(population)}
        self.report["examples"] = references.each

    def guess(self, count: int) -> Array:
        """Return probabilities (count, 2) of the records."""
        of_records, of_population = (
            likelihood(target, np.stack(references), self.settings.a)
            for target, references in zip(self._target, zip(*self._references, strict=True), strict=True)
        )
        return self._records.probabilities(share_below(of_records, of_population, self.settings.gamma))


def likelihood(target: Doubles, references: Doubles, a: float) -> Doubles:
    """Return Pr(x | model) / Pr(x) of records (n,); `references` (references, n) did not train on them."""
    return np.asarray(target / (((1 + a) * references.mean(0) + 1 - a) / 2))


def share_below(records: Doubles, population: Doubles, gamma: float) -> Doubles:
    """Return for each record (n,) the share of population ratios (m,) that it exceeds at least `gamma` times."""
    return np.searchsorted(np.sort(population) * gamma, records, side="right") / len(population)
