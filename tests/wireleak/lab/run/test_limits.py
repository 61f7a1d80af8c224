"""Limits of a run: time, memory, and what they stop."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from wireleak.lab.run.limits import NO_TIME, LimitError, Limits

GIB = 2**30
JOB: Any = SimpleNamespace(name="cut-1-seed0-inversion-input", target="input", cell=SimpleNamespace(name="cut-1-seed0"))


def test_an_attack_that_cannot_run_says_why() -> None:
    limits = Limits(64 * GIB, lambda job: 100 * GIB, 0)
    assert (limits.refusal(JOB) or "").startswith("it needs 100.0 GiB of memory and ")
    assert Limits(64 * GIB, lambda job: GIB, 0).refusal(JOB) is None
    late = Limits(64 * GIB, lambda job: GIB, 0, deadline=time.monotonic() - 1)
    assert late.late and late.refusal(JOB) == NO_TIME
    late.skipped[JOB.name] = "it failed before"
    assert late.refusal(JOB) == "it failed before"


def test_attacks_wait_until_their_memory_is_free() -> None:
    limits = Limits(8 * GIB, lambda job: 4 * GIB, 0)
    order: list[str] = []

    def second() -> None:
        with limits.reserved(5 * GIB):
            order.append("second")

    with limits.reserved(5 * GIB) as share:
        assert share == 5 * GIB
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_attacks_share_the_time_that_is_left_and_shrink_with_it() -> None:
    limits = Limits(64 * GIB, lambda job: GIB, 0, deadline=time.monotonic() + 100, at_once=2)
    limits.waiting = {"a", "b", "c", JOB.name}
    assert limits.remaining == pytest.approx(50, abs=1)
    limits.waiting -= {"a", "b", "c"}
    assert limits.remaining == pytest.approx(100, abs=1)
    # A phase before took longer, so less is left.
    limits.deadline = time.monotonic() + 40
    limits.waiting |= {"a", "b", "c"}
    assert limits.remaining == pytest.approx(20, abs=1)
    assert Limits(GIB, lambda job: 0, 0, seconds=7.0).remaining == 7.0


def test_an_attack_that_cannot_end_in_its_share_does_not_start() -> None:
    limits = Limits(64 * GIB, lambda job: GIB, 0, deadline=time.monotonic() + 40, at_once=2)
    limits.waiting = {"a", "b", "c", JOB.name}
    # Of the same cut and target the fastest attack counts; others tell nothing.
    limits.took = {
        "cut-1-seed0-linear-input": 62.0,
        "cut-10-seed0-linear-input": 1.0,
        "cut-1-seed0-attributes-age": 1.0,
    }
    assert (limits.refusal(JOB) or "").startswith("it needs about 31 s, and ")
    limits.took["cut-1-seed0-linear-input"] = 30.0
    assert limits.refusal(JOB) is None


def test_an_attack_that_has_no_time_does_not_begin() -> None:
    limits = Limits(64 * GIB, lambda job: GIB, 0, deadline=time.monotonic() - 1)
    with pytest.raises(LimitError, match=NO_TIME), limits.attacking(JOB):
        raise AssertionError("it began")
    assert limits.leaves_out(0), "nor does a capture"


def test_within_a_deadline_quality_is_measured_of_trained_attacks_while_there_is_time() -> None:
    free = Limits(GIB, lambda job: 0, 0)
    cheap = Limits(GIB, lambda job: 0, 0, deadline=time.monotonic() + 60)
    trained = Limits(GIB, lambda job: 0, 0, deadline=time.monotonic() + 60, at_once=2)
    late = Limits(GIB, lambda job: 0, 0, deadline=time.monotonic() - 1, at_once=2)
    assert [one.quality for one in (free, cheap, trained, late)] == [None, (), ("",), ()]
    assert Limits(GIB, lambda job: 0, 0, brief=True).quality == ("",)


def test_the_first_cells_are_captured_however_late_it_is() -> None:
    limits = Limits(GIB, lambda job: 0, 0, captured=time.monotonic() - 1)
    assert [limits.leaves_out(number) for number in range(4)] == [False, False, True, True]
    assert not Limits(GIB, lambda job: 0, 0).leaves_out(9)
