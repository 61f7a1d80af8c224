import io
import time

import pytest
from rich.console import Console

from wireleak.lab.launch import watch


def test_without_a_terminal_a_command_says_what_it_does_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_SECONDS", 0.01)
    monkeypatch.setattr(watch, "_SILENCE", 0.05)
    monkeypatch.setattr(watch, "_FIRST", 0.05)
    printed = io.StringIO()
    with watch.working(Console(file=printed, width=200)) as work:
        with work.on("reading the data"):
            time.sleep(0.3)
        work.state = lambda: "attacks 1 of 2"
        time.sleep(0.2)
    lines = printed.getvalue().splitlines()
    assert [line for line in lines if line.endswith("s] reading the data")][1:]
    assert lines[-1].endswith("attacks 1 of 2")


def test_no_line_is_more_than_ten_seconds_after_another() -> None:
    assert watch._SILENCE + watch._SECONDS < 10
