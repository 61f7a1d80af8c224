"""Data that come in round by round."""

import numpy as np
import pytest

from wireleak.lab.data.dataset import DataError
from wireleak.lab.data.stream import plain_stream, property_stream


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_plain_stream_repeats_nothing_before_all_was_drawn() -> None:
    held = np.arange(100, 124)
    rows, when = plain_stream(held, 4, 6, rng())
    assert sorted(rows) == list(held)
    assert when.tolist() == [1] * 6 + [2] * 6 + [3] * 6 + [4] * 6
    again, _ = plain_stream(held, 8, 6, rng())
    assert sorted(again[:24]) == sorted(again[24:]) == list(held)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_property_rounds_hold_their_share_and_the_others_none(share: float) -> None:
    held, has = np.arange(60), np.arange(60) % 3 == 0
    rows, when = property_stream(held, has, 10, 8, rng(), share=share, rate=0.3)
    assert len(rows) == 80
    counts = np.array([has[rows[when == number]].sum() for number in range(1, 11)])
    assert sorted(set(counts)) == [0, round(share * 8)] and (counts > 0).sum() == 3


def test_a_client_who_is_no_victim_never_shows_the_property() -> None:
    held, has = np.arange(60), np.arange(60) % 3 == 0
    rows, _ = property_stream(held, has, 10, 8, rng(), rate=0.0)
    assert not has[rows].any()


def test_too_few_examples_for_a_batch_are_refused() -> None:
    with pytest.raises(DataError, match=r"batch: one batch needs 8 examples of a kind, but a client holds 3"):
        property_stream(np.arange(20), np.arange(20) < 3, 4, 8, rng(), rate=0.5)
