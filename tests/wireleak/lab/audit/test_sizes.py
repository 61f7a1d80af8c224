"""Sizes of an audit: memory, time, wire size and the size of the data."""

from __future__ import annotations

import pytest

from wireleak.lab.audit.cost import Cost
from wireleak.lab.audit.sizes import (
    READING,
    Counts,
    Needs,
    Speed,
    by_priority,
    cut_seconds,
    fitted,
    passes,
    plan_cuts,
    wanted,
)
from wireleak.lab.data import DataError

PIXELS = 3 * 224 * 224
# Bytes of a MobileNetV2's cuts at 224 px.
WIRE = {1: 1_605_632, 2: 1_605_632, 4: 802_816, 7: 301_056, 8: 301_056, 11: 100_352, 16: 50_176, 33: 5_120}
COSTS = {cut: Cost(size // 4, size, 10**7 * cut, 1000 * cut) for cut, size in WIRE.items()}


def needs(memory: int = 4 * 2**30, *, quick: bool = False, trains: bool = True, pixels: int = PIXELS) -> Needs:
    return Needs(pixels, memory, quick, trains)


def test_small_inputs_get_the_usual_numbers_and_wide_wires_fewer() -> None:
    small = wanted([Cost(6272, 25088, 1, 1)], needs(pixels=784))
    assert small == Counts(2560, 400, 1500, 400)
    wide = wanted([COSTS[1]], needs())
    narrow = wanted([COSTS[16]], needs())
    assert 100 < wide.attacker < narrow.attacker and wide.victims < narrow.victims
    assert "the widest cut sends 1.6 MB an example, and 4.0 GiB of memory must hold an attack on it" in wide.notes[0]
    assert wanted([COSTS[1]], needs(16 * 2**30)).attacker > 2 * wide.attacker
    assert wanted([COSTS[1]], needs(trains=False)).train == 1


@pytest.mark.parametrize("available", [100, 250, 600, 50_000])
def test_any_number_of_images_from_100_on_is_divided(available: int) -> None:
    counts = fitted(wanted([COSTS[1]], needs(quick=True)), available, grouped=False)
    assert counts.total <= available and counts.victims >= 20 and counts.attacker >= 24 and counts.train >= 32
    small = any("few: intervals are wide" in note for note in counts.notes)
    assert small == (available < 50_000)


def test_too_few_images_are_one_line() -> None:
    with pytest.raises(DataError, match="--data: 90 distinct examples are too few for an audit; give 96 or more"):
        fitted(wanted([COSTS[1]], needs()), 90, grouped=False)


def test_groups_leave_a_margin() -> None:
    counts = wanted([COSTS[1]], needs(quick=True))
    assert fitted(counts, 600, grouped=True).total <= 0.85 * 600 < fitted(counts, 600, grouped=False).total


def test_cuts_that_send_less_come_first() -> None:
    order = by_priority(list(COSTS), COSTS)
    assert set(order[:6]) == {1, 4, 7, 11, 16, 33} and set(order[6:]) == {2, 8}
    assert order[:2] == [33, 1]


def test_a_budget_decides_how_many_cuts_and_examples_there_are() -> None:
    speed = Speed(train=0.16, predict=0.03)
    cuts, counts, left_out = plan_cuts(list(COSTS), COSTS, needs(), speed, 1200, fixed=False)
    assert {1, 33} <= set(cuts) and set(cuts) | set(left_out) == set(COSTS)
    assert sum(cut_seconds(COSTS[cut], counts, PIXELS, speed) for cut in cuts) <= READING * 1200
    shorter, fewer, _ = plan_cuts(list(COSTS), COSTS, needs(), speed, 300, fixed=False)
    assert len(shorter) >= 2 and fewer.attacker < counts.attacker and fewer.train < counts.train
    limited = [note for note in fewer.notes if note.endswith(": more would not fit in the budget")]
    assert [
        note.partition(f" {count} examples")[0]
        for note, count in zip(limited, (fewer.train, fewer.attacker), strict=True)
    ] == [
        "the network is trained on",
        "the attacker has",
    ]
    # Cuts that the user named all stay.
    assert plan_cuts(list(COSTS), COSTS, needs(), speed, 300, fixed=True)[0] == tuple(COSTS)
    assert plan_cuts(list(COSTS), COSTS, needs(), None, None, fixed=False)[0] == tuple(COSTS)


def test_passes_shrink_with_the_budget() -> None:
    counts, speed = Counts(640, 100, 100, 50), Speed(0.1, 0.02)
    assert passes(counts, 9, speed, 10_000) == 9
    assert passes(counts, 9, speed, 800) == 3
    assert passes(counts, 9, speed, 1) == 1
