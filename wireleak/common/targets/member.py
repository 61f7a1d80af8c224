"""Membership: whether records were trained on, ordinary ones and an audit's canaries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from wireleak.common.measures.scores.canary_epsilon import canary_scores
from wireleak.common.measures.scores.tpr_at_fpr import membership_scores
from wireleak.common.targets.registry import register
from wireleak.common.targets.sealed import Sealed
from wireleak.common.targets.target import Array, Baseline, Case, Examples, Guesses, Ints, Scored, Target, score_each

# Added to the truth of canaries: examples with a wrong label, on which a client trained by the toss of a coin.
PLANTED = 2


@register
class Member(Target[Ints]):
    """Whether records were trained on: by any client, or by one that is named with the record."""

    name = "member"
    guessed = "membership"
    grants = "records"

    def prior(self, own: Examples) -> Array:
        """Return one half."""
        return np.full((1, 2), 0.5, np.float32)

    def baselines(self, case: Case) -> Iterator[Baseline]:
        """Yield one half for all, and other records' guesses."""
        yield "majority", case.prior
        yield from case.shuffle()

    def senders(self, clients: int, *, participant: bool) -> list[int]:
        """Return clients 1 and up, because client 0 may be the attacker."""
        return list(range(1 if participant or clients > 1 else 0, clients))

    def count(self, sealed: Sealed) -> int:
        """Return the number of records."""
        return len(self.ground_truth(sealed))

    def ground_truth(self, sealed: Sealed) -> Ints:
        """Read which records are members: 1 for those, and `PLANTED` more for canaries."""
        return sealed.file("records", "member")

    def score(self, guesses: Guesses, truth: Ints, seed: int) -> list[Scored]:
        """Score probabilities of being a member; canaries apart, as "member-canary", with the epsilon proved."""
        canary = truth >= PLANTED
        if not canary.any():
            return score_each(self.shown, guesses, truth, seed, membership_scores)
        rows = []
        for target, among, measures in (
            (self.shown, ~canary, membership_scores),
            (f"{self.shown}-canary", canary, canary_scores),
        ):
            # A baseline that was drawn several times has its records second.
            part = {name: guess[..., among, :] for name, guess in guesses.items()}
            rows += score_each(target, part, truth[among] % PLANTED, seed, measures)
        return rows
