"""Property inference: whether the data behind an update have a property that is not part of the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.attack import PERMUTATIONS
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.harness.update_attack import UpdateAttack
from adversary.attacks.updates.aggregation import Rule, join
from adversary.attacks.updates.imitation import Imitation
from adversary.attacks.updates.update_features import features
from wireleak.common.measures.statistics.permutation import null_orders
from wireleak.common.targets.attribute import PrivateAttribute

if TYPE_CHECKING:
    from adversary.attacks.harness.training import Update


class PropertyOptions(BaseModel):
    """Settings of `Property`."""

    model_config = ConfigDict(extra="forbid")
    learner: Literal["forest", "logistic"] = Field("forest", description="Classifier of the attacker's updates.")
    pure: int = Field(2, ge=1, description="Updates per round whose examples all have the property.")
    mixtures: tuple[float, ...] = Field(
        (0.4, 0.6, 0.8), description="Shares of examples with the property in mixed updates, which count as having it."
    )
    mixed: int = Field(2, ge=1, description="Updates per round of each mixture.")
    without: int = Field(8, ge=1, description="Updates per round without the property.")
    snapshots: int = Field(
        0, ge=0, description="The attacker makes updates on the models of so many rounds, evenly spaced; 0 is all."
    )
    by_group: bool = Field(False, description="Make each update from one person's examples, where people are known.")
    rule: Rule = Field("mean", description="How the server combines updates; a participant imitates it.")
    cut: float = Field(0.25, ge=0, lt=0.5, description="Share that the server's trimmed mean cuts off at either end.")
    malicious: int = Field(
        1, ge=0, description="Number of participants that the server's Krum assumes to be malicious."
    )
    tsne: bool = Field(True, description="Report the t-SNE positions of the captured updates, for a plot.")


@register
class Property(UpdateAttack):
    """Infer whether the data behind an update have a property, with a classifier of the attacker's own updates.

    On each round's global model the attacker trains as a client does, on its own examples with the property, with some
    of it, and without. A random forest (or logistic regression) learns to classify those updates, and then classifies
    the captured ones. A participant sees only the mean of all others, and makes such means: of one update with the
    property and the others without. If the server does not take the mean, it imitates the server's rule on those and
    on its own update. A malicious participant's joint loss changes the models under all updates; the attack itself
    stays the same.

    An update with other shapes than the network's, or with numbers that are not finite, is read as zeros and listed in
    the report.

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
        """Make updates on each model for which an update was captured, and train the classifier on them."""
        seen, self._classes = knowledge.training, knowledge.classes
        assert seen is not None
        own = Imitation(knowledge, self.seed, by_group=self.settings.by_group)
        # Where the server takes no mean, there is no telling one's own part from the others': the whole change is read.
        ours = {one.round: one.delta for one in seen.own if self.settings.rule != "mean"}
        made = [
            (self._row(own.updates(seen.models[number], value, share), ours.get(number)), value, own.person)
            for number in _spaced(sorted({one.round for one in seen.updates}), self.settings.snapshots)
            for value, share in self._batches(own.values)
        ]
        rows, values, people = zip(*made, strict=True)
        self._made, self._values = np.stack(rows), np.array(values)
        self._people = np.array(people) if self.settings.by_group else None
        self._model = self._learnt(self._values)
        blank = np.zeros_like(rows[0])
        whole = [replace(one, end=seen.models[one.round + 1]) if one.round in ours else one for one in seen.updates]
        self._rows = {
            (one.sender, one.round): features(one.delta) if _fits(one, own.shapes) else blank for one in whole
        }
        unread = [unit for unit, row in self._rows.items() if not row.any()]
        self.report = {"updates_made": len(made), "features": len(blank), "unread": unread}
        if self.settings.tsne and len(self._rows) > 4:
            self.report["tsne"] = self._drawing()

    def guess(self, updates: Sequence[Update]) -> Array:
        """Return probabilities (updates, classes)."""
        rows = np.stack([self._rows[one.sender, one.round] for one in updates])
        guess = np.zeros((len(rows), self._classes), np.float32)
        guess[:, self._model.classes_] = self._model.predict_proba(rows)
        return guess

    @property
    def permutations(self) -> int:
        """Twenty: the attacker's updates cost more than the reader."""
        return PERMUTATIONS

    def permuted(self, knowledge: Knowledge, rng: np.random.Generator) -> Property:
        """Return the same learner, fitted to the same updates with permuted values, which move between people."""
        other, (order,) = copy(self), null_orders(self._values, self._people, 1, rng)
        other._model = self._learnt(self._values[order])
        return other

    def _batches(self, values: Sequence[int]) -> Iterator[tuple[int, float]]:
        """Return the value of each update to make on one model, and the share of its examples with that value."""
        options = self.settings
        for value in values[1:]:
            yield from [(value, 1.0)] * options.pure
            yield from [(value, share) for share in options.mixtures] * options.mixed
        yield from [(0, 0.0)] * options.without

    def _row(self, others: list[dict[str, Array]], ours: dict[str, Array] | None) -> Array:
        """Return features of what the attacker sees: the updates' mean, or the server's result with its own update."""
        options = self.settings
        rule: Rule = "mean" if ours is None else options.rule
        return features(join([*others, ours] if ours else others, rule, cut=options.cut, malicious=options.malicious))

    def _learnt(self, values: npt.NDArray[np.int64]) -> Any:
        """Fit the classifier of the attacker's updates to these values."""
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        learner: Any = LogisticRegression(max_iter=1000)
        if self.settings.learner == "forest":
            learner = RandomForestClassifier(100, min_samples_leaf=5, min_samples_split=5, random_state=self.seed)
        return make_pipeline(StandardScaler(), learner).fit(self._made, values)

    def _drawing(self) -> dict[str, Any]:
        """Return the captured updates in two dimensions: standardised, 30 principal components, t-SNE."""
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE

        rows = self._model[0].transform(np.stack(list(self._rows.values())))
        kept = PCA(min(30, len(rows) - 1, rows.shape[1]), random_state=0).fit_transform(rows)
        flat = TSNE(perplexity=min(30, (len(rows) - 1) / 3), init="random", random_state=0).fit_transform(kept)
        return {"x": flat[:, 0].tolist(), "y": flat[:, 1].tolist(), "unit": [list(unit) for unit in self._rows]}


def _spaced(rounds: list[int], count: int) -> list[int]:
    """Return `count` of the rounds, the first and the last among them; all for 0."""
    places = np.unique(np.linspace(0, len(rounds) - 1, count or len(rounds)).round().astype(int))
    return [rounds[place] for place in places]


def _fits(one: Update, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return {name: value.shape for name, value in one.end.items()} == shapes
