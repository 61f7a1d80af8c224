"""The classifier that tells updates with a property from those without, and a drawing of updates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from adversary.attacks.harness.knowledge import Array
from wireleak.common.measures.statistics.permutation import null_orders
from wireleak.common.measures.statistics.tsne import tsne_map

Ints = npt.NDArray[np.int64]
Learner = Literal["forest", "logistic"]


@dataclass(frozen=True, eq=False)
class UpdateClassifier:
    """A random forest or logistic regression, fitted to updates that the attacker made.

    Parameters
    ----------
    rows : float32 (n, d)
        Features of the made updates.
    values : int64 (n,)
        Value of the attribute behind each.
    people : int64 (n,) or None
        Person behind each, where each is of one person.
    learner : {"forest", "logistic"}
    seed : int
    """

    rows: Array
    values: Ints
    people: Ints | None
    learner: Learner
    seed: int

    def permuted(self, rng: np.random.Generator) -> UpdateClassifier:
        """Return the same learner for the same updates with permuted values, which move between people."""
        (order,) = null_orders(self.values, self.people, 1, rng)
        return replace(self, values=self.values[order])

    def probabilities(self, rows: Array, classes: int) -> Array:
        """Return float32 (m, classes) for rows (m, d) of captured updates."""
        found = np.zeros((len(rows), classes), np.float32)
        found[:, self._model.classes_] = self._model.predict_proba(rows)
        return found

    @cached_property
    def _model(self) -> Any:
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        learner: Any = LogisticRegression(max_iter=1000)
        if self.learner == "forest":
            learner = RandomForestClassifier(100, min_samples_leaf=5, min_samples_split=5, random_state=self.seed)
        return make_pipeline(StandardScaler(), learner).fit(self.rows, self.values)


def drawing(rows: Mapping[tuple[int, int], Array], made: Array) -> dict[str, Any]:
    """Return captured updates in two dimensions: standardised as made ones are, then t-SNE.

    Parameters
    ----------
    rows : mapping of (int, int) to float32 (d,)
        Features of each captured update, by sender and round.
    made : float32 (n, d)
        Features of the attacker's own updates.

    Returns
    -------
    dict
        Lists `x` and `y`, and `unit` with the sender and round of each.
    """
    from sklearn.preprocessing import StandardScaler

    flat = tsne_map(StandardScaler().fit(made).transform(np.stack(list(rows.values()))))
    return {"x": flat[:, 0].tolist(), "y": flat[:, 1].tolist(), "unit": [list(unit) for unit in rows]}
