"""What a run says while its attacks work."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from rich.progress import Progress

from wireleak.lab.steps.schedule import Schedule


def test_the_line_of_an_attack_says_how_far_it_is(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Progress(disable=True) as progress:
        line = progress.add_task("  wide-seed0-lira", total=None)
        job = SimpleNamespace(name="wide-seed0-lira", log=log)
        schedule: Any = SimpleNamespace(progress=progress, running={line: job}, lock=threading.Lock())
        Schedule._follow(schedule)
        assert Schedule.state(schedule) == ": wide-seed0-lira"
        log.write_text("progress: shadows, 12 of 46\n")
        Schedule._follow(schedule)
        assert Schedule.state(schedule) == ": wide-seed0-lira (shadows, 12 of 46)"


def test_an_attack_may_end_while_its_line_is_written(tmp_path: Path) -> None:
    asked, ended = threading.Event(), threading.Event()

    class Job:
        name, cell = "cell-lira", SimpleNamespace(name="cell")

        @property
        def log(self) -> Path:
            # The attack ends now, if nothing holds it back.
            asked.set()
            ended.wait(0.5)
            return tmp_path / "log"

    with Progress(disable=True) as progress:
        schedule: Any = SimpleNamespace(
            progress=progress,
            running={},
            lock=threading.Lock(),
            findings=SimpleNamespace(rows={}),
            left={"cell": 2},
            attacks_bar=progress.add_task("attacks", total=2),
            _rows=lambda job: asked.wait() and None,
        )

        def attack() -> None:
            Schedule._attack(schedule, cast(Any, Job()))
            ended.set()

        thread = threading.Thread(target=attack)
        thread.start()
        while not schedule.running:
            time.sleep(0.01)
        Schedule._follow(schedule)
        thread.join()
    assert not schedule.running and schedule.left == {"cell": 1}
