"""A cell that Flower itself spoiled is captured again; nothing else is."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wireleak.lab.launch.processes import LaunchError
from wireleak.lab.steps import executor as module

LOST = "the ServerApp ended with status 1: flwr.supercore.inflatable.inflatable_utils.ObjectPushError: Failed to push"
BUG = "the ServerApp ended with status 1: ValueError: a bug"


class Capture:
    """Capture a cell whose attempts end as given; keep which began with a clean folder, and the warnings."""

    def __init__(self, folder: Path) -> None:
        self.cell = SimpleNamespace(name=folder.name, folder=folder)
        self.ends: list[str | None] = []
        self.clean: list[bool] = []
        self.said: list[str] = []

    def attempt(self, cell: Any, launcher: Any, say: Any) -> None:
        self.clean.append(not (cell.folder / "half").exists())
        (cell.folder / "half").touch()
        if (end := self.ends.pop(0)) is not None:
            raise LaunchError(end)

    def __call__(self, *ends: str | None) -> None:
        self.ends = list(ends)
        cell, unused = cast(Any, self.cell), cast(Any, None)
        module.capture_anew(cell, cell.folder.mkdir, unused, print, self.said.append)


@pytest.fixture
def capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Capture:
    made = Capture(tmp_path / "none-seed0")
    monkeypatch.setattr(module, "capture_cell", made.attempt)
    return made


def test_it_is_captured_once_more_from_the_beginning_and_that_is_said(capture: Capture) -> None:
    capture(LOST, None)
    assert capture.clean == [True, True]
    assert capture.said == [f"none-seed0 is captured again: {LOST}"]


@pytest.mark.parametrize(("ends", "attempts"), [((LOST, LOST), 2), ((BUG,), 1)])
def test_what_fails_again_or_by_a_fault_of_ours_ends_the_run(capture: Capture, ends: Any, attempts: int) -> None:
    with pytest.raises(LaunchError, match=ends[-1]):
        capture(*ends)
    assert len(capture.clean) == attempts


def test_what_succeeds_is_done_once(capture: Capture) -> None:
    capture(None)
    assert (capture.clean, capture.said) == ([True], [])
