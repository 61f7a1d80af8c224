"""Property inference: whether the data behind an update have a property that is not part of the task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from adversary.attacks.harness.attack import PERMUTATIONS
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.harness.update_attack import UpdateAttack
from adversary.attacks.updates.aggregation import MEAN, Aggregation, join
from adversary.attacks.updates.imitation import Imitation
from adversary.attacks.updates.update_classifier import Learner, UpdateClassifier, drawing
from adversary.attacks.updates.update_features import check_left_out, features
from wireleak.common.targets.attribute import PrivateAttribute

if TYPE_CHECKING:
    from adversary.attacks.harness.training import Seen, Update


class PropertyOptions(Aggregation):
    """Settings of `Property`."""

    learner: Learner = Field("forest", description="Classifier of the attacker's updates.")
    pure: int = Field(2, ge=1, description="Updates made per round in which every example has the property.")
    mixtures: tuple[float, ...] = Field((0.4, 0.6, 0.8), description="Shares with the property in mixed updates.")
    mixed: int = Field(2, ge=1, description="Updates per round of each mixture.")
    without: int = Field(8, ge=1, description="Updates per round without the property.")
    windows: int = Field(1, ge=1, description="Windows of rounds, each with a classifier of its own.")
    snapshots: int = Field(0, ge=0, description="How many rounds' models a window's updates start from; 0 is all.")
    leave_out: tuple[str, ...] = Field((), description="Beginnings of the names of layers that it does not read.")
    by_group: bool = Field(False, description="Make each update from one person's examples, where people are known.")
    permutations: int = Field(PERMUTATIONS, ge=1, description="Fits to permuted values, for the baseline.")
    tsne: bool = Field(True, description="Report the t-SNE positions of the captured updates, for a plot.")


@register
class Property(UpdateAttack):
    """Infer whether the data behind an update have a property, with a classifier of the attacker's own updates.

    On the rounds' global models the attacker trains as a client does, on its own examples with the property, with some
    of it (which counts as having it), and without. Models drift apart, so each window of rounds may have a classifier
    of its own: a random forest or logistic regression that learns to classify those updates, and then classifies the
    captured ones. A participant sees only the mean of all others, and makes such means: of one update with the property
    and the others without. If the server does not take the mean, it imitates the server's rule on those and on its own
    update. A malicious participant's joint loss changes the models under all updates; the attack itself stays the same.

    An update of other shapes, or with numbers that are not finite, is read as zeros and listed in the report.

    References
    ----------
    Melis, Song, De Cristofaro, Shmatikov, "Exploiting Unintended Feature Leakage in Collaborative Learning", S&P 2019,
    algorithm 3; batches and forest as in csong27/property-inference-collaborative-ml.
    """

    name = "property"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.SERVER, Vantage.PARTICIPANT, Vantage.MALICIOUS_PARTICIPANT),
        sees=("global-model", "model-update"),
        knows=(Knows.SURROGATE, Knows.ARCHITECTURE),
    )
    target = PrivateAttribute
    options = PropertyOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Make updates on the models of each window of rounds, and train its classifier on them."""
        seen, self._classes = knowledge.training, knowledge.classes
        assert seen is not None
        own = self._imitation(knowledge)
        check_left_out(self.settings.leave_out, own.shapes)
        # Where the server takes no mean, there is no telling one's own part from the others': the whole change is read.
        self._ours = {one.round: one.delta for one in seen.own if self.settings.rule != "mean"}
        rounds = np.array_split(sorted({one.round for one in seen.updates}), self.settings.windows)
        windows = [(window.tolist(), self._classifier(own, seen, window.tolist())) for window in rounds if len(window)]
        self._by_round = {number: classifier for window, classifier in windows for number in window}
        made = np.concatenate([classifier.rows for _, classifier in windows])
        self._rows = {(one.sender, one.round): self._captured(one, seen, own, made.shape[1]) for one in seen.updates}
        unread = [unit for unit, row in self._rows.items() if not row.any()]
        self.report = {"updates_made": len(made), "features": made.shape[1], "unread": unread}
        if self.settings.tsne and len(self._rows) > 4:
            self.report["tsne"] = drawing(self._rows, made)

    def guess(self, updates: Sequence[Update]) -> Array:
        """Return probabilities (updates, classes)."""
        rows = np.stack([self._rows[one.sender, one.round] for one in updates])
        guess = np.zeros((len(rows), self._classes), np.float32)
        of_classifier: dict[UpdateClassifier, list[int]] = {}
        for place, one in enumerate(updates):
            of_classifier.setdefault(self._by_round[one.round], []).append(place)
        for classifier, places in of_classifier.items():
            guess[places] = classifier.probabilities(rows[places], self._classes)
        return guess

    @property
    def permutations(self) -> int:
        """As many as the settings say. A forest takes seconds to fit if there are a thousand updates."""
        return int(self.settings.permutations)

    def permuted(self, knowledge: Knowledge, rng: np.random.Generator) -> Property:
        """Return the same learners, fitted to the same updates with permuted values."""
        other = copy(self)
        permuted = {one: one.permuted(rng) for one in dict.fromkeys(self._by_round.values())}
        other._by_round = {number: permuted[classifier] for number, classifier in self._by_round.items()}
        return other

    def _imitation(self, knowledge: Knowledge) -> Imitation:
        return Imitation(knowledge, self.seed, by_group=self.settings.by_group)

    def _classifier(self, own: Imitation, seen: Seen, rounds: list[int]) -> UpdateClassifier:
        """Train a classifier on updates that are made on the models of some of these rounds."""
        made = [
            (self._row(own.updates(seen.models[number], value, share), self._ours.get(number)), value, own.person)
            for number in _spaced(rounds, self.settings.snapshots)
            for value, share in self._batches(own.values)
        ]
        rows, values, people = zip(*made, strict=True)
        groups = np.array(people) if self.settings.by_group else None
        return UpdateClassifier(np.stack(rows), np.array(values), groups, self.settings.learner, self.seed)

    def _captured(self, one: Update, seen: Seen, own: Imitation, count: int) -> Array:
        """Return the features of a captured update, or zeros if it cannot be one of the network's."""
        if {name: value.shape for name, value in one.end.items()} != own.shapes:
            return np.zeros(count, np.float32)
        whole = replace(one, end=seen.models[one.round + 1]) if one.round in self._ours else one
        return features(whole.delta, self.settings.leave_out)

    def _batches(self, values: Sequence[int]) -> Iterator[tuple[int, float]]:
        """Return the value of each update to make on one model, and the share of its examples with that value."""
        for value in values[1:]:
            yield from [(value, 1.0)] * self.settings.pure
            yield from [(value, share) for share in self.settings.mixtures] * self.settings.mixed
        yield from [(0, 0.0)] * self.settings.without

    def _row(self, others: list[dict[str, Array]], ours: dict[str, Array] | None) -> Array:
        """Return features of what the attacker sees: the updates' mean, or the server's result with its own update."""
        whole = join(others, MEAN) if ours is None else join([*others, ours], self.settings)
        return features(whole, self.settings.leave_out)


def _spaced(rounds: list[int], count: int) -> list[int]:
    """Return `count` of the rounds, the first and the last among them; all for 0."""
    places = np.unique(np.linspace(0, len(rounds) - 1, count or len(rounds)).round().astype(int))
    return [rounds[place] for place in places]
