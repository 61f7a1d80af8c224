"""Baselines of everything that is rebuilt: inputs, and secrets in them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from wireleak.common.measures.scores.measure import are_numbered
from wireleak.common.measures.scores.priors import linear_code
from wireleak.common.memory import check_memory
from wireleak.common.targets import baselines
from wireleak.common.targets.ridge import ridge, ridge_memory
from wireleak.common.targets.target import Array, Baseline, Case, Pairs

# Wires of more floats than this are no bottleneck to compare with a code of their width.
WIDEST_CODE = 256


def reconstruction_baselines(case: Case) -> Iterator[Baseline]:
    """Yield the baselines of everything that is rebuilt."""
    is_text = are_numbered(case.own.inputs)
    yield "commonest" if is_text else "mean", case.prior
    if not is_text:
        yield "background", lambda: baselines.background(case.own.without_copies().inputs, case.count)
    # An attack that could not run takes none of the simple readers with it.
    if (pairs := case.pairs) is not None:
        if not is_text:  # the numbers of words are names, not amounts
            yield "ridge", partial(_ridge, case, pairs)
        yield "nearest", lambda: case.filled(baselines.nearest(pairs.seen, pairs.own.inputs, pairs.victims))
    yield from case.shuffle()


def _ridge(case: Case, pairs: Pairs) -> Array:
    inputs = pairs.own.inputs
    check_memory("ridge", ridge_memory(len(inputs), pairs.seen[0].size, inputs[0].size))
    decoder = ridge(pairs.seen, inputs, pairs.own.held_out())
    case.report("ridge", {"strength": decoder.strength, "validation_mse": decoder.error})
    guess = decoder.guess(pairs.victims).reshape(-1, *inputs.shape[1:])
    return case.filled(np.clip(guess, inputs.min(), inputs.max(), out=guess))


def linear_codes(own: Array, x: Array, floats: int) -> dict[str, Array]:
    """Return inputs x after a linear code as wide as the wire: the reader "pca-<floats>", only for narrow wires."""
    if are_numbered(own) or floats > WIDEST_CODE or floats >= min(len(own), x[0].size):
        return {}
    return {f"pca-{floats}": linear_code(own, x, floats)}
