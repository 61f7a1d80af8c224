"""Member-lira: the likelihood ratio attack on membership, offline and online."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.pace import shown
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel
from adversary.attacks.harness.update_attack import ModelAttack
from adversary.attacks.updates.members import ANYWHERE, UNIT, Doubles, Unit, last_models, records
from adversary.attacks.updates.shadows import Shadows
from wireleak.common.targets.member import Member

Mask = npt.NDArray[np.bool_]
Variance = Literal["fixed", "record"]
_TIMES = 2  # trainings with a record that the variance with it needs
_LEAST = 1e-6  # of a standard deviation: a record may have the same confidence in all shadows


class MemberLiraOptions(BaseModel):
    """Settings of `MemberLira`."""

    model_config = ConfigDict(extra="forbid")
    form: Literal["offline", "online"] = Field(
        "offline", description="offline: no shadow trains on the records; online: each record is in some of them."
    )
    shadows: int = Field(16, ge=2, le=1024, description="Trainings that the attacker simulates.")
    variance: Variance = Field(
        "fixed",
        description="fixed: one variance for all records, which fewer than 64 shadows need; record: one for each.",
    )
    unit: Unit = Field("record", description=UNIT)


@register
class MemberLira(ModelAttack):
    """Compare a record's confidence with its distribution over shadow trainings with and without the record.

    The confidence is the log-odds of the record's label in the model of the asked client, or else the largest over the
    models that the attacker sees. A normal distribution is fitted to it for each record. *Offline*, no shadow has the
    record: the score is the probability that its confidence would be lower in such a training. *Online*, the attacker
    puts the records into shadow trainings itself, each into equally many, and as an example of the asked client: the
    score is the ratio of the two likelihoods. A training of Carlini et al. holds half of the records; if that is more
    than the real one has examples, it holds as many as these.

    The means are those of each record. The fixed variance is that of a record around its own mean, pooled over all
    records. The records are not augmented. Shadows are trained as those of `member-shadow`.

    References
    ----------
    Carlini, Chien, Nasr, Song, Terzis, Tramèr, "Membership Inference Attacks From First Principles", S&P 2022,
    algorithm 1 (online) and section VI-B (offline).
    """

    name = "member-lira"
    threat = ThreatModel(
        vantage=ANYWHERE,
        sees=("global-model",),
        knows=(Knows.SURROGATE, Knows.ARCHITECTURE),
    )
    target = Member
    options = MemberLiraOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Train the shadows, and compute each one's confidence in the records."""
        seen, _ = knowledge.trained()
        self._records = asked = records(knowledge, self.settings.unit)
        shadows, rng = Shadows(knowledge, self.seed), np.random.default_rng([self.seed, 4])
        blocks, groups = knowledge.network().blocks, shadows.groups(asked)
        self._target = asked.confidence(blocks, last_models(seen))
        self._inside = np.zeros((self.settings.shadows, len(asked.x)), bool)
        if self.settings.form == "online":
            for group in groups:
                self._inside[:, group] = _drawn(len(group), self.settings.shadows, shadows.size // len(groups), rng)
        self._shadows = np.empty(self._inside.shape)
        for number, inside in enumerate(shown(self._inside, f"{self.name}: shadows")):
            made = shadows.train(number, *shadows.mixed(asked, inside, rng))
            self._shadows[number] = asked.confidence(blocks, made)
        self.report |= {"shadows": len(self._inside), "examples": shadows.each}
        self.report["measured"] = {"trainings-with-a-record": float(self._inside.sum(0).mean())}

    def guess(self, count: int) -> Array:
        """Return probabilities (count, 2) of the records."""
        score = ratio(self._target, self._shadows, self._inside, self.settings.variance)
        return self._records.probabilities(score)


def ratio(target: Doubles, shadows: Doubles, inside: Mask, variance: Variance) -> Doubles:
    """Return the score of each record (n,), by which members rank high.

    Parameters
    ----------
    target : float64 (n,)
        Confidence of the real model.
    shadows, inside : float64 and bool (shadows, n)
        Confidence of each shadow, and whether it trained on the record; nowhere for the offline form.
    variance : "fixed" or "record"
    """
    from scipy.stats import norm

    mean, spread = _normal(shadows, ~inside, variance)
    if not inside.any():
        # The probability of a lower confidence rises with this, and would be 1 for all that lie far above.
        return np.asarray((target - mean) / spread)
    return np.asarray(norm.logpdf(target, *_normal(shadows, inside, variance)) - norm.logpdf(target, mean, spread))


def _normal(shadows: Doubles, among: Mask, variance: Variance) -> tuple[Doubles, Doubles]:
    """Return the mean and the standard deviation of each record over the shadows that are `among`, both (n,)."""
    count = among.sum(0)
    mean = np.where(among, shadows, 0).sum(0) / count
    squares = np.where(among, shadows - mean, 0) ** 2
    each = squares.sum(0) / count
    if variance == "fixed":
        each = np.full(len(mean), squares.sum() / max(count.sum() - len(count), 1))
    return mean, np.sqrt(each) + _LEAST


def _drawn(count: int, shadows: int, room: int, rng: np.random.Generator) -> Mask:
    """Return which of `count` records each shadow trains on, bool (shadows, count): half, but at most `room`.

    A record is in at most one or two more of them than another.
    """
    each = min(count // 2, room)
    if shadows * each < _TIMES * count:
        raise ValueError(
            f"options.shadows: {shadows} trainings with {each} of {count} records are too few for each to be in "
            f"{_TIMES}; take {-(-_TIMES * count // max(each, 1))} or more, or set form = offline"
        )
    inside = np.zeros((shadows, count), bool)
    order = np.concatenate([rng.permutation(count) for _ in range(shadows * each // max(count, 1) + 1)])
    for number in range(shadows):
        inside[number, order[number * each : (number + 1) * each]] = True
    return inside
