"""Clients that are faster or slower, end early, die or come late: the order of steps stays the same."""

from __future__ import annotations

import threading
import time

import pytest

from wireleak.common.wire.turns import LateError, Turns

WAIT = 10.0


def plays(turns: Turns, clients: dict[str, tuple[int, float]]) -> tuple[list[str], dict[str, str]]:
    """Have each client take its steps after its own pause; return the steps and the errors."""
    steps: list[str] = []
    errors: dict[str, str] = {}

    def client(name: str, count: int, pause: float) -> None:
        with turns.stream(name):
            for number in range(count):
                time.sleep(pause)
                try:
                    with turns.turn(name):
                        steps.append(f"{name}{number}")
                except LateError as error:
                    errors[name] = str(error)
                    return

    threads = [threading.Thread(target=client, args=(name, *how)) for name, how in clients.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    return steps, errors


@pytest.mark.parametrize("slow", ["a", "b", "c"])
def test_steps_go_round_whoever_is_slow_and_those_that_end_leave(slow: str) -> None:
    turns = Turns()
    clients = {name: (count, 0.02 * (name == slow)) for name, count in (("c", 4), ("a", 2), ("b", 3))}
    for _ in range(2):
        turns.begin(["a", "b", "c"], WAIT)
        assert plays(turns, clients) == (["a0", "b0", "c0", "a1", "b1", "c1", "b2", "c2", "c3"], {})


def test_nobody_waits_before_a_round_begins_or_for_a_client_that_died() -> None:
    turns = Turns()
    assert plays(turns, {"b": (2, 0.0)})[0] == ["b0", "b1"]
    turns.begin(["a", "b"], WAIT)
    threading.Timer(0.05, turns.expect, (["b"],)).start()
    assert plays(turns, {"b": (2, 0.0)})[0] == ["b0", "b1"]


def test_a_client_that_sends_nothing_in_time_is_named_and_refused_later(caplog: pytest.LogCaptureFixture) -> None:
    turns = Turns()
    turns.begin(["a", "b"], 0.05)
    steps, errors = plays(turns, {"a": (1, 0.4), "b": (2, 0.0)})
    assert steps == ["b0", "b1"]
    assert errors == {"a": "order: this client sent no batch for 0.05 s, so the others went on; raise system.timeout"}
    assert "client a sent no batch for 0.05 s and left the order" in caplog.text


def test_a_stream_of_the_last_round_that_ends_late_leaves_the_new_round_alone() -> None:
    turns = Turns()
    turns.begin(["a", "b"], WAIT)
    old = turns.stream("a")
    old.__enter__()
    turns.begin(["a", "b"], WAIT)
    old.__exit__(None, None, None)
    assert plays(turns, {"b": (1, 0.0), "a": (1, 0.05)})[0] == ["a0", "b0"]
