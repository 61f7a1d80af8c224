"""What a run says while its attacks work."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.progress import Progress

from wireleak.lab.steps.schedule import Schedule


def test_the_line_of_an_attack_says_how_far_it_is(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Progress(disable=True) as progress:
        line = progress.add_task("  wide-seed0-lira", total=None)
        job = SimpleNamespace(name="wide-seed0-lira", log=log)
        schedule: Any = SimpleNamespace(progress=progress, running={line: job})
        Schedule._follow(schedule)
        assert Schedule.state(schedule) == ": wide-seed0-lira"
        log.write_text("progress: shadows, 12 of 46\n")
        Schedule._follow(schedule)
        assert Schedule.state(schedule) == ": wide-seed0-lira (shadows, 12 of 46)"
