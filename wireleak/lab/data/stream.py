"""Streams: the examples on which a client trains in each round, when new data arrive over time.

As in Melis, Song, De Cristofaro, Shmatikov 2019, "Exploiting unintended feature leakage in collaborative learning":
some of the victim's batches hold examples with a property. Its other batches, and those of all others, hold none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wireleak.lab.data.dataset import DataError, Ints


class ScarceError(DataError):
    """A client holds too few examples, with or without a property, for a batch; another draw may give it more."""


def plain_stream(held: Ints, rounds: int, batch: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Draw `batch` of a client's examples for each round; none repeats before all were drawn.

    Returns
    -------
    rows, when : int64 (rounds * batch,)
        The examples, and the round of each, counted from 1.

    Raises
    ------
    ScarceError
        The client holds fewer examples than a batch.
    """
    rows = _drawn(held, rounds * batch, batch, rng)
    return rows, np.repeat(np.arange(1, rounds + 1), batch)


def property_stream(
    held: Ints,
    has: npt.NDArray[np.bool_],
    rounds: int,
    batch: int,
    rng: np.random.Generator,
    *,
    share: float = 1.0,
    rate: float = 0.0,
) -> tuple[Ints, Ints]:
    """Draw a batch for each round; only some rounds' batches hold examples with a property.

    Parameters
    ----------
    held : int64 (n,)
        The client's examples.
    has : bool (n,)
        True for examples that have the property.
    rounds, batch : int
    rng : numpy.random.Generator
    share : float
        Share of a property round's batch that has the property; at least one example.
    rate : float
        Share of the rounds that are property rounds, chosen at random.

    Returns
    -------
    rows, when : int64 (rounds * batch,)
        As for `plain_stream`.

    Raises
    ------
    ScarceError
        There are too few examples, with or without the property, for one batch.
    """
    marked = np.zeros(rounds, bool)
    marked[rng.permutation(rounds)[: round(rate * rounds)]] = True
    count = max(1, round(share * batch))
    without = _drawn(held[~has], int(batch * rounds - count * marked.sum()), batch, rng)
    with_it = _drawn(held[has], int(count * marked.sum()), count, rng)
    rows = []
    for has_now in marked:
        own = count if has_now else 0
        rows.append(np.concatenate([with_it[:own], without[: batch - own]]))
        with_it, without = with_it[own:], without[batch - own :]
    return np.concatenate(rows), np.repeat(np.arange(1, rounds + 1), batch)


def _drawn(pool: Ints, count: int, once: int, rng: np.random.Generator) -> Ints:
    if not count:
        return np.zeros(0, np.int64)
    if len(pool) < min(once, count):
        raise ScarceError(
            f"data.stream.batch: one batch needs {once} examples of a kind, but a client holds {len(pool)}; "
            "raise data.train or lower the batch"
        )
    times = -(-count // len(pool))
    return np.concatenate([rng.permutation(pool) for _ in range(times)])[:count].astype(np.int64)
