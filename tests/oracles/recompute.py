"""The figures of a run again, from its files, with scikit-learn's and scikit-image's own measures."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.linear_model import Ridge
from sklearn.metrics import accuracy_score, balanced_accuracy_score, mean_squared_error, roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Figure:
    """A row of results.csv, and the same figure recomputed."""

    row: str
    reported: float
    recomputed: float


def figures(run: Path, beginning: str = "") -> Iterator[Figure]:
    """Recompute each row of the table, from the guesses that the run kept."""
    with (run / "results.csv").open() as file:
        for row in csv.DictReader(file):
            name = " ".join(row[part] for part in ("variant", "seed", "attack", "target", "measure", "name"))
            if not name.startswith(beginning):
                continue
            cell = run / f"{row['variant']}-seed{row['seed']}"
            guesses = np.load(cell / "adversary" / f"{row['attack']}-{row['target']}" / "guesses.npz")
            key = row["attack"] if row["role"] == "attack" else f"control:{row['name']}"
            # The scorer makes the conditional majority of the victims' task labels itself.
            if key in guesses and row["measure"] in MEASURES and row["name"] != "conditional-majority":
                guess, truth = guesses[key], _truth(cell, row["target"])
                # Of many permutations, each one's guess is kept.
                draws = guess if row["name"] == "permuted" and guess.ndim == 3 else guess[None]
                found = np.mean([MEASURES[row["measure"]](draw, truth) for draw in draws])
                yield Figure(name, float(row["value"]), float(found))


def _truth(cell: Path, target: str) -> Array:
    ledger = np.load(cell / "sealed" / "ledger.npz")
    truth: Array = ledger["x" if target == "input" else f"attribute:{target}"]
    return truth


def _mse(guess: Array, truth: Array) -> float:
    return float(mean_squared_error(truth.reshape(len(truth), -1), guess.reshape(len(guess), -1)))


def _psnr(guess: Array, truth: Array) -> float:
    return float(np.mean([peak_signal_noise_ratio(t, g, data_range=1) for g, t in zip(guess, truth, strict=True)]))


def _ssim(guess: Array, truth: Array) -> float:
    how = {"data_range": 1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 0}
    pairs = zip(guess.astype(float), truth.astype(float), strict=True)
    return float(np.mean([structural_similarity(t, g, **how) for g, t in pairs]))


def _reid(guess: Array, truth: Array) -> float:
    # As in the run, all victims are candidates: there are at most 1,000.
    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(truth.reshape(len(truth), -1).astype(float))
    found = nearest.kneighbors(guess.reshape(len(guess), -1).astype(float), return_distance=False)
    return float(np.mean(found[:, 0] == np.arange(len(truth))))


def _auc(guess: Array, truth: Array) -> float:
    if guess.shape[1] == 2:
        return float(roc_auc_score(truth, guess[:, 1].astype(float)))
    # One against the rest by hand of scikit-learn's binary measure: its own wants probabilities that sum to 1 exactly.
    columns = [column for column in range(guess.shape[1]) if 0 < np.mean(truth == column) < 1]
    return float(np.mean([roc_auc_score(truth == column, guess[:, column].astype(float)) for column in columns]))


def _balanced(guess: Array, truth: Array) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class that no victim has
        return float(balanced_accuracy_score(truth, guess.argmax(axis=1)))


MEASURES: dict[str, Callable[[Array, Array], float]] = {
    "mse": _mse,
    "psnr": _psnr,
    "ssim": _ssim,
    "reid": _reid,
    "auc": _auc,
    "accuracy": lambda guess, truth: float(accuracy_score(truth, guess.argmax(axis=1))),
    "balanced-accuracy": _balanced,
}


def nearest_guess(own: Array, inputs: Array, seen: Array) -> Array:
    """Return the input of the attacker's own activation that is nearest to each victim's."""
    learner = make_pipeline(StandardScaler(), KNeighborsRegressor(1, algorithm="brute"))
    return _shaped(learner.fit(_flat(own), _flat(inputs)).predict(_flat(seen)), inputs)


def ridge_guess(own: Array, inputs: Array, seen: Array) -> Array:
    """Return what ridge regression, its strength chosen by cross-validation on the attacker's pairs, rebuilds."""
    strengths = {"ridge__alpha": [10.0**power for power in range(-2, 4)]}
    search = GridSearchCV(make_pipeline(StandardScaler(), Ridge()), strengths, cv=3, scoring="neg_mean_squared_error")
    return _shaped(np.clip(search.fit(_flat(own), _flat(inputs)).predict(_flat(seen)), 0, 1), inputs)


def _flat(values: Array) -> Array:
    return values.reshape(len(values), -1).astype(np.float64)


def _shaped(values: Array, like: Array) -> Array:
    return values.reshape(len(values), *like.shape[1:])
