"""An attack that the kernel kills is named, and the run goes on; any other failure ends it."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wireleak.lab.launch.processes import Launcher, LaunchError
from wireleak.lab.steps import attack as attack_step
from wireleak.lab.steps.attack import AttackKilledError, fit_and_guess
from wireleak.lab.steps.collect import _not_enforced
from wireleak.lab.steps.schedule import Schedule


class Starting(Launcher):
    """A launcher that runs a short program in place of the adversary."""

    def __init__(self, program: str) -> None:
        super().__init__(preload=False)
        self.program = program

    def start(self, name: str, argv: Any, log: Path, *rest: Any, **more: Any) -> Any:
        return super().start(name, [sys.executable, "-c", self.program], log, essential=False)


def attacked(program: str, folder: Path) -> None:
    config = {"out": str(folder / "out"), "granted": {}, "captures": {}}
    with Starting(program) as launcher:
        fit_and_guess(launcher, "cut-1-seed0-inversion-input", config, folder / "attack.log", 60)


def test_a_kill_is_an_error_of_its_own(tmp_path: Path) -> None:
    kill = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
    with pytest.raises(AttackKilledError, match="was killed by SIGKILL, probably because memory was short; see "):
        attacked(kill, tmp_path)
    with pytest.raises(LaunchError, match="ended with status 1") as caught:
        attacked("raise SystemExit(1)", tmp_path)
    assert not isinstance(caught.value, AttackKilledError)


def test_what_a_kernel_could_not_enforce_is_kept_with_the_guesses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "captured.json").write_text('{"not_enforced": []}')
    cells: Any = [SimpleNamespace(done=tmp_path / "captured.json")]
    jobs: Any = [SimpleNamespace(out=tmp_path / "out")]
    guess = f"open({str(tmp_path / 'out' / 'guesses.npz')!r}, 'w').close()"
    for line in (None, "this kernel has no Landlock"):
        monkeypatch.setattr(attack_step, "gap", lambda line=line: line)
        attacked(guess, tmp_path)
        # A resumed run finds it here too, whichever machine attacked.
        assert _not_enforced(cells, jobs) == line


def test_an_attack_that_was_killed_or_lacks_a_client_s_capture_is_named_and_the_run_goes_on() -> None:
    errors: list[LaunchError] = [AttackKilledError("it was killed"), LaunchError("it failed"), LaunchError("no update")]

    def attack(*given: Any) -> None:
        raise errors.pop(0)

    said: list[str] = []
    console = SimpleNamespace(print=lambda line, **style: said.append(line))
    schedule: Any = SimpleNamespace(
        described={"inversion": {}},
        limits=None,
        launcher=SimpleNamespace(check=lambda: None),
        executor=SimpleNamespace(attack=attack),
        findings=SimpleNamespace(skipped={}),
        progress=SimpleNamespace(console=console),
    )
    cell = SimpleNamespace(lost=[])
    use = SimpleNamespace(name="inversion")
    job: Any = SimpleNamespace(use=use, guesses=Path("none"), name="cut-1-inversion", cell=cell)
    assert Schedule._rows(schedule, job) is None
    assert schedule.findings.skipped == {"cut-1-inversion": "it was killed"}
    assert said == ["skipped cut-1-inversion: it was killed"]
    with pytest.raises(LaunchError, match="it failed"):
        Schedule._rows(schedule, job)
    cell.lost.append("client-1 was killed")
    assert Schedule._rows(schedule, job) is None
    assert schedule.findings.skipped == {"cut-1-inversion": "no update"}


def test_a_reset_stream_of_the_fork_server_ends_its_processes_without_a_traceback() -> None:
    class Reset:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None: ...

        def __iter__(self) -> Any:
            raise ConnectionResetError

    launcher = Launcher.__new__(Launcher)
    process: Any = SimpleNamespace(_status=None)
    launcher.processes, launcher._changed = [process], threading.Condition()
    connection: Any = SimpleNamespace(makefile=lambda mode: Reset(), close=lambda: None)
    launcher._connection = connection
    seen: list[int | None] = []
    zygote: Any = SimpleNamespace(wait=lambda seconds: seen.append(process._status))
    launcher._zygote = zygote
    launcher._listen()
    assert process._status == -signal.SIGKILL
    assert seen == [None]  # its children end only after it is known to be gone
