"""A training within a time: how many steps fit, and what is said of one that stopped."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest

from adversary.attacks.harness import pace as module
from adversary.attacks.harness.pace import Pace, shown
from adversary.attacks.harness.run import attack


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: Any) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def steps(pace: Pace, clock: Clock, seconds: float) -> int:
    while not pace.over:
        clock.now += seconds
        pace.step()
    return pace.done


def test_without_a_deadline_all_steps_are_done(clock: Clock) -> None:
    pace = Pace(50, None)
    assert steps(pace, clock, 1e6) == 50 and pace.stopped is None


def test_as_many_steps_are_done_as_fit(clock: Clock) -> None:
    pace = Pace(1000, clock.now + 50)
    assert 40 <= steps(pace, clock, 1.0) <= 45
    assert pace.allowed == pace.done and pace.stopped == f"stopped after {pace.done} of 1000 steps"
    short = Pace(10, clock.now + 50)
    assert steps(short, clock, 1.0) == 10 and short.stopped is None


def test_a_machine_that_slows_down_stops_at_the_deadline(clock: Clock) -> None:
    pace = Pace(1000, clock.now + 50)
    for _ in range(10):
        pace.step()
        clock.now += 0.1
    assert pace.allowed > 100
    assert steps(pace, clock, 20.0) < 15 and clock.now < 200


def test_the_first_step_is_always_done(clock: Clock) -> None:
    assert steps(Pace(10, clock.now - 1), clock, 1.0) == 1


@pytest.mark.parametrize("name", ["inversion", "inverse-network"])
def test_an_attack_stops_in_time_with_what_it_has(config: Any, world: Any, name: str) -> None:
    path, out = config(attack=name, options={"epochs": 10_000}, seconds=3.0)
    began = time.monotonic()
    attack(path)
    meta = json.loads((out / "meta.json").read_text())
    assert meta["fit"]["stopped"].startswith("stopped after ") and meta["fit"]["seconds"]["fit"] < 30
    assert time.monotonic() - began < 60
    with np.load(out / "guesses.npz") as guesses:
        assert np.mean((guesses[name] - world.private) ** 2) < np.mean((guesses["control:mean"] - world.private) ** 2)


def test_without_a_terminal_a_long_loop_says_every_five_seconds_how_far_it_is(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in shown(range(8), "lira: shadows"):
        clock.now += 2.0
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["progress: shadows, 3 of 8", "progress: shadows, 6 of 8"]
    assert list(shown([], "nothing")) == [] and capsys.readouterr().err == ""
