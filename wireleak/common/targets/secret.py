"""The pictures that a malicious participant hides in a model."""

from __future__ import annotations

from collections.abc import Iterator

from wireleak.common.measures.scores.hidden_data import secret_scores
from wireleak.common.targets import baselines
from wireleak.common.targets.reconstruction import reconstruction_baselines
from wireleak.common.targets.registry import register
from wireleak.common.targets.sealed import Sealed
from wireleak.common.targets.target import Array, Baseline, Case, Examples, Guesses, Scored, Target, score_each


@register
class Secret(Target[Array]):
    """Pictures of client 0's own data that it hides in the model."""

    name = "secret"
    guessed = "a secret"

    def prior(self, own: Examples) -> Array:
        """Return the mean input."""
        return baselines.mean_input(own.inputs)

    def baselines(self, case: Case) -> Iterator[Baseline]:
        """Yield the baselines of every reconstruction."""
        yield from reconstruction_baselines(case)

    def senders(self, clients: int, *, participant: bool) -> list[int]:
        """Return client 0, which hides the secret."""
        return [0]

    def count(self, sealed: Sealed) -> int:
        """Return the number of pictures."""
        return len(self.ground_truth(sealed))

    def ground_truth(self, sealed: Sealed) -> Array:
        """Read the pictures."""
        return sealed.hidden("x")

    def score(self, guesses: Guesses, truth: Array, seed: int) -> list[Scored]:
        """Score pictures as reconstructions, and by their grey levels."""
        return score_each(self.shown, guesses, truth, seed, secret_scores)

    def picture(self, guesses: Guesses, sealed: Sealed) -> tuple[Array, Guesses]:
        """Return the secrets and the guesses."""
        return self.ground_truth(sealed), guesses
