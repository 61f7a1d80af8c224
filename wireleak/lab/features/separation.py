"""How well features separate labels: a linear probe's AUC, and silhouettes.

Sources: Alain and Bengio, "Understanding intermediate layers using linear classifier probes", ICLR workshop 2017
(arXiv:1610.01644); Rousseeuw, "Silhouettes", Journal of Computational and Applied Mathematics 1987.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_SEED, _STEPS = 0, 1000


class UnmeasuredError(ValueError):
    """A figure is not defined for these examples; the message is the reason in one line."""


def probe_auc(features: Rows, values: Ints, groups: Ints | None = None) -> tuple[float, int]:
    """Fit a linear probe on one half of the examples, and return its AUC on the other.

    The probe is scikit-learn's logistic regression with its default penalty, on features standardised by the first
    half; nothing is tuned. The halves are stratified, drawn by a fixed seed, and share no group.

    Parameters
    ----------
    features : float32 (n, width)
    values : int64 (n,)
        The property of each example. With more than two values, the AUC is the mean of one value against the rest,
        weighted by the number of examples of each.
    groups : int64 (n,), optional
        Person of each example, where the study keeps people apart.

    Returns
    -------
    auc : float
    n : int
        Number of scored examples.

    Raises
    ------
    UnmeasuredError
        A half does not contain every value.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted, scored = halves(values, groups)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_STEPS)).fit(features[fitted], values[fitted])
    chances = probe.predict_proba(features[scored])
    if chances.shape[1] == 2:
        return float(roc_auc_score(values[scored], chances[:, 1])), len(scored)
    return float(roc_auc_score(values[scored], chances, multi_class="ovr", average="weighted")), len(scored)


def halves(values: Ints, groups: Ints | None = None) -> tuple[Ints, Ints]:
    """Divide rows into two stratified halves, by a fixed seed; no group is in both.

    Returns
    -------
    fitted, scored : int64 (n / 2,)

    Raises
    ------
    UnmeasuredError
        A half does not contain every value, or there is only one value or group.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    every = np.unique(values)
    if len(every) < 2:
        raise UnmeasuredError("the examples have one value of the property, so no probe can tell values apart")
    if groups is not None and len(np.unique(groups)) < 2:
        raise UnmeasuredError("the examples are of one group, so two halves would share it")
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about rare values, which are refused below
        try:
            fitted, scored = next(kind(2, shuffle=True, random_state=_SEED).split(values, values, groups))
        except ValueError as error:
            raise UnmeasuredError(f"{len(values)} examples are too few for two halves ({error})") from error
    for half in (fitted, scored):
        if len(np.unique(values[half])) < len(every):
            raise UnmeasuredError("a half of the examples lacks a value of the property; take more data.evaluation")
    return fitted, scored


def silhouette(features: Rows, labels: Ints) -> float:
    """Return the mean silhouette of standardised features, by Euclidean distance, -1 to 1.

    Parameters
    ----------
    features : float32 (n, width)
    labels : int64 (n,)

    Raises
    ------
    UnmeasuredError
        All labels are equal, or all are different.
    """
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(labels)) < len(labels):
        raise UnmeasuredError(f"{len(labels)} examples with {len(np.unique(labels))} labels have no silhouette")
    return float(silhouette_score(standardised(features), labels, metric="euclidean"))


def standardised(features: Rows) -> Doubles:
    """Return features (n, width) with mean 0 and variance 1 in each column; constant columns become 0."""
    from sklearn.preprocessing import StandardScaler

    scaled: Doubles = StandardScaler().fit_transform(features.astype(np.float64))
    return scaled
