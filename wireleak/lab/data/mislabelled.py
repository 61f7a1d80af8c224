"""The canaries of an audit of training: examples with a wrong label, and a coin for each that says whether it is used.

A network has to learn a wrong label by heart, so canaries are the worst case for membership. The coins make the audit
of one training valid (`wireleak.common.measures.bounds.auditing.from_canaries`).

References
----------
Steinke, Nasr, Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023 (the coins).
Aerni, Zhang, Tramèr, "Evaluations of Machine Learning Privacy Defenses are Misleading", CCS 2024 (wrong labels).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]


class Dealt(NamedTuple):
    """A client's examples, with an array `canary` (bool) in each part.

    Attributes
    ----------
    trained, left_out : dict of arrays
        Examples on which the client trains, and canaries on which nobody does.
    """

    trained: Arrays
    left_out: Arrays


def deal(examples: Mapping[str, npt.NDArray[Any]], wanted: int, rng: np.random.Generator) -> Dealt:
    """Give wrong labels to some of a client's examples, and leave out those on whose side the coin falls.

    Parameters
    ----------
    examples : mapping of str to array (n, ...)
        Among them `y`, the labels. Wrong ones are drawn among those that occur.
    wanted : int
        How many get a wrong label.
    rng : np.random.Generator
    """
    y, count = examples["y"].copy(), len(examples["y"])
    chosen = rng.permutation(count)[:wanted]
    known = np.unique(y)
    # A step of 1 to k - 1 around the circle of labels never returns to the true one.
    step = rng.integers(1, max(len(known), 2), len(chosen))
    y[chosen] = known[(np.searchsorted(known, y[chosen]) + step) % len(known)]
    canary, used = np.zeros(count, bool), np.ones(count, bool)
    canary[chosen] = True
    used[chosen] = rng.random(len(chosen)) < 0.5
    every = dict(examples) | {"y": y, "canary": canary}
    return Dealt(*({name: values[rows] for name, values in every.items()} for rows in (used, ~used)))
