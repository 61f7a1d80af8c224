"""Membership: whether records were trained on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from wireleak.common.measures.scores.tpr_at_fpr import membership_scores
from wireleak.common.targets.registry import register
from wireleak.common.targets.sealed import Sealed
from wireleak.common.targets.target import Array, Baseline, Case, Examples, Guesses, Ints, Scored, Target, score_each


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
        """Read which records are members, 1 for those."""
        return sealed.file("records", "member")

    def score(self, guesses: Guesses, truth: Ints, seed: int) -> list[Scored]:
        """Score probabilities of being a member."""
        return score_each(self.shown, guesses, truth, seed, membership_scores)
