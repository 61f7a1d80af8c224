"""The accuracy that an attacker reaches without the wire, and the error that the wire's width would allow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]


def majority(labels: Labels) -> float:
    """Return max_z P(z): the accuracy of always guessing the most frequent of labels (n,)."""
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def conditional_majority(labels: Labels, task: Labels) -> float:
    """Return E_y[max_z P(z|y)]: the accuracy of an attacker that knows only the task label.

    Coavoux, Narayan, Cohen, EMNLP 2018. Leakage is claimed only above it.

    Parameters
    ----------
    labels : (n,)
        Private attribute z.
    task : (n,)
        Task label y.
    """
    return float((conditional_probabilities(labels, task).argmax(axis=1) == _numbers(labels)).mean())


def conditional_probabilities(labels: Labels, task: Labels, classes: int | None = None) -> npt.NDArray[np.float32]:
    """Return P(z|y) of each example's task label, float32 (n, classes): the conditional majority as a guess to score.

    Each half of the examples is guessed from counts of the other half. Coavoux et al. count on the scored examples
    themselves, which overstates how much the task reveals where task labels have few examples. A task label that the
    other half lacks is guessed by the overall frequencies.

    Parameters
    ----------
    labels : (n,)
        Private attribute z; class indices where `classes` is given.
    task : (n,)
        Task label y.
    classes : int, optional
        Columns; by default the number of different labels.
    """
    numbers = _numbers(labels) if classes is None else np.asarray(labels, np.int64)
    _, rows = np.unique(task, return_inverse=True)
    width = classes or int(numbers.max()) + 1
    halves = np.random.default_rng(0).permutation(len(rows)) % 2
    guess = np.empty((len(rows), width), np.float32)
    for half in (0, 1):
        other = halves != half
        table = np.zeros((int(rows.max()) + 1, width), np.float32)
        np.add.at(table, (rows[other], numbers[other]), 1)
        # One example's weight for the overall frequencies, so that no task label is without a guess.
        overall = table.sum(axis=0) + np.float32(1 / width)
        table += overall / overall.sum()
        guess[~other] = (table / table.sum(axis=1, keepdims=True))[rows[~other]]
    return guess


def linear_code(own: Floats, inputs: Floats, floats: int) -> Floats:
    """Return inputs rebuilt from their `floats` principal components: the best linear code of that width.

    It is an oracle, because it encodes the true inputs; no attacker has it. It separates the effect of a wide wire from
    that of a strong attack.

    Parameters
    ----------
    own : float32 (m, ...)
        The attacker's own inputs, m above `floats`, of which the components are taken (Pearson 1901).
    inputs : float32 (n, ...)
        Inputs to encode and decode.
    floats : int
        Numbers on the wire for one input.

    Returns
    -------
    float32 (n, ...)
        Not clipped to the inputs' range.
    """
    flat, asked = own.reshape(len(own), -1).astype(np.float64), inputs.reshape(len(inputs), -1)
    mean = flat.mean(0)
    flat -= mean
    # The smaller of the two Gram matrices has the same spectrum; scikit-learn's PCA takes seconds to import.
    wide = len(flat) < flat.shape[1]
    vectors = np.linalg.eigh(flat @ flat.T if wide else flat.T @ flat)[1][:, -floats:]
    axes = np.linalg.qr(flat.T @ vectors)[0] if wide else vectors
    return np.asarray((asked - mean) @ axes @ axes.T + mean, np.float32).reshape(inputs.shape)


def _numbers(labels: Labels) -> npt.NDArray[np.int64]:
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)
