"""Numbers that an auditor plants in one client's text."""

from __future__ import annotations

import math

import numpy as np

from wireleak.common.measures.statistics.bootstrap import mean_score
from wireleak.common.measures.statistics.score import Score
from wireleak.common.measures.statistics.secret_sharer import ExposedCanary, exposures_among
from wireleak.common.references import LIKELIEST, UNPLANTED
from wireleak.common.targets.registry import register
from wireleak.common.targets.sealed import Sealed
from wireleak.common.targets.target import OWN, Array, Examples, Guesses, Scored, Target

# Of a secret that the model never saw, whose rank is anywhere: the mean of -log2 U for U uniform on (0, 1).
CHANCE = 1 / math.log(2)
_UNPLANTED = 200


@register
class Canary(Target[dict[str, int]]):
    """Which numbers were planted: the attacker ranks all numbers of so many digits."""

    name = "canary"
    guessed = "planted numbers"
    participant = "canary"

    def prior(self, own: Examples) -> Array:
        """Return no preference."""
        return np.zeros((1, 1), np.float32)

    def senders(self, clients: int, *, participant: bool) -> list[int]:
        """Return client 0, in whose text the numbers are planted."""
        return [0]

    def count(self, sealed: Sealed) -> int:
        """Return how many numbers are ranked."""
        return int(10 ** len(next(iter(sealed.planted()))))

    def ground_truth(self, sealed: Sealed) -> dict[str, int]:
        """Read how often each number was planted."""
        return sealed.planted()

    def score(self, guesses: Guesses, truth: dict[str, int], seed: int) -> list[Scored]:
        """Score the exposure of planted numbers, by how often each was planted, and of numbers never planted.

        The guess is the log-perplexity (10 ** digits, 1) of every number, in bits. "exposure" is by exact rank among
        all numbers, "exposure-extrapolated" by a skew-normal.
        """
        perplexities, rng = guesses[OWN][:, 0], np.random.default_rng(seed)
        others = np.setdiff1d(np.arange(len(perplexities)), [int(digits) for digits in truth])
        never = rng.choice(others, min(_UNPLANTED, len(others)), replace=False)
        width = len(next(iter(truth)))
        measured = exposures_among(perplexities, truth | {f"{number:0{width}d}": 0 for number in never.tolist()}, rng)
        rows = []
        for times in sorted(set(truth.values())):
            target = f"{self.shown}-{times}"
            for name, count in ((OWN, times), (UNPLANTED, 0)):
                group = [one for one in measured if one.times == count]
                rows += [Scored(target, name, score) for score in _scores(group, seed)]
            most = Score("exposure", math.log2(len(perplexities)), math.nan, math.nan, len(perplexities))
            rows.append(Scored(target, LIKELIEST, most, bound=True))
        return rows


def _scores(group: list[ExposedCanary], seed: int) -> list[Score]:
    scores = []
    for name, each in (
        ("exposure", [one.exposure for one in group]),
        ("exposure-extrapolated", [one.extrapolated for one in group]),
    ):
        score = mean_score(name, np.array(each), np.random.default_rng(seed), CHANCE)
        # One number has no interval: resampling it would make it look certain.
        scores.append(score if len(each) > 1 else Score(name, score.value, math.nan, math.nan, 1, CHANCE))
    return scores
