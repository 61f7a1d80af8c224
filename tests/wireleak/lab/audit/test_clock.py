"""The time of an audit counts from the start of the command, and no part outlasts its budget."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from wireleak.common.models import save_weights
from wireleak.lab.audit.audit import _Audit
from wireleak.lab.audit.clock import Clock
from wireleak.lab.audit.studies import audit_study, cheap_attacks
from wireleak.lab.audit.subject import Request, examine
from wireleak.lab.launch.processes import Launcher
from wireleak.lab.run.job import attack_jobs
from wireleak.lab.run.limits import NO_TIME, Limits
from wireleak.lab.run.seeds import Seeds
from wireleak.lab.steps.plan import make_plan
from wireleak.lab.steps.schedule import Schedule
from wireleak.lab.study.library import load_study

MODEL = f"{Path(__file__).resolve().parents[4] / 'examples' / 'audit_model.py'}:make"


def test_a_budget_counts_the_seconds_before_the_clock_was_made() -> None:
    clock = Clock(100.0, before=60.0)
    assert clock.spent == pytest.approx(60, abs=1) and clock.left() == pytest.approx(40, abs=1)
    assert clock.left(15) == pytest.approx(25, abs=1) and not clock.late(15) and clock.late(50)
    assert clock.deadline(15) == pytest.approx(time.monotonic() + 25, abs=1)
    # A short budget keeps some seconds for its report, a long one a part.
    assert Clock(60.0).page == 12 and Clock(1000.0).page == 70 and Clock(60.0).reporting == 24
    free = Clock(None, before=60.0)
    assert free.left() is None and free.deadline(15) is None and not free.late(900) and free.page == 0


def test_a_process_knows_since_when_it_runs() -> None:
    code = "import time; time.sleep(0.7); from wireleak.lab.audit.clock import process_seconds as s; print(s())"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The system's time of its start has whole seconds.
    assert 0 < float(done.stdout) <= time.monotonic() - began + 1


def test_the_command_counts_its_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Clock] = []
    monkeypatch.setattr("wireleak.lab.audit.clock.process_seconds", lambda: 25.0)

    def run(asked: Any) -> Path:
        seen.append(asked.clock)
        return tmp_path / "audit.html"

    monkeypatch.setattr(_Audit, "run", run)
    (tmp_path / "audit.json").write_text('{"cuts": []}')
    from typer.testing import CliRunner

    from wireleak.cli import app

    done = CliRunner().invoke(app, ["audit", MODEL, "--data", "digits", "--budget", "60s"])
    assert done.exit_code == 0, done.output
    assert seen[0].left() == pytest.approx(35, abs=5)


class Slow:
    """An executor whose every capture lasts a minute."""

    jobs, processes, gaps = 2, (), ()

    def capture(self, cell: Any, plan: Any, launcher: Launcher, say: Any, warn: Any) -> None:
        launcher.finish(launcher.start("slow", ["sleep", "60"], cell.log("slow"), essential=False), 90)

    def stop(self) -> None: ...


def test_a_capture_that_the_deadline_finds_unfinished_is_ended_and_named(tmp_path: Path) -> None:
    subject = examine(Request(MODEL, "digits", attributes=("slant",), cuts=(1, 4), quick=True))
    source = tmp_path / "study.toml"
    save_weights(subject.network.whole, tmp_path / "seed0.safetensors")
    source.write_text(audit_study(subject, "audit-make", tmp_path, cheap_attacks(subject)))
    plan = make_plan(load_study(str(source))[0], dataset=subject.dataset, secret=Seeds.draw())
    cells, began = plan.cells(tmp_path), time.monotonic()
    limits = Limits(2**40, lambda job: 0, 0, deadline=began + 1)
    with Launcher(preload=False) as launcher:
        executor: Any = Slow()
        Schedule(plan, launcher, executor, Console(quiet=True), {}, limits).run(cells)
        later = launcher.start("later", ["true"], tmp_path / "later.log")
        assert later.wait(20) == 0, "what comes after it can still start"
    assert time.monotonic() - began < 55, "the capture would have lasted a minute"
    assert limits.skipped == {job.name: NO_TIME for cell in cells for job in attack_jobs(cell)}
    assert not any(cell.done.exists() for cell in cells)
