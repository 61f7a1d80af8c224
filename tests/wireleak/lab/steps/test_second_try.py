"""A cell that Flower itself spoiled is captured again; nothing else is."""

from pathlib import Path
from typing import Any

import pytest

from wireleak.lab.launch.processes import LaunchError
from wireleak.lab.steps import run as module

LOST = "the ServerApp ended with status 1: flwr.supercore.inflatable.inflatable_utils.ObjectPushError: Failed to push"
BUG = "the ServerApp ended with status 1: ValueError: a bug"


@pytest.fixture
def capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Capture a cell whose attempts end as told; return which attempts began with a clean folder, and what was said."""

    class Cell:
        name = "none-seed0"
        folder = tmp_path / "none-seed0"

    def capturing(*ends: Any) -> None:
        remaining, clean, said = list(ends), [], []

        def attempt(cell: Any, launcher: Any, say: Any) -> None:
            clean.append(not (cell.folder / "half").exists())
            (cell.folder / "half").touch()
            if (end := remaining.pop(0)) is not None:
                raise LaunchError(end)

        monkeypatch.setattr(module, "write_cell", lambda plan, cell: cell.folder.mkdir())
        monkeypatch.setattr(module, "capture_cell", attempt)
        try:
            module.capture_anew(Cell(), None, None, print, said.append)
        finally:
            capturing.clean, capturing.said = clean, said

    return capturing


def test_it_is_captured_once_more_from_the_beginning_and_that_is_said(capture: Any) -> None:
    capture(LOST, None)
    assert capture.clean == [True, True]
    assert capture.said == [f"none-seed0 is captured again: {LOST}"]


@pytest.mark.parametrize(("ends", "attempts"), [((LOST, LOST), 2), ((BUG,), 1)])
def test_what_fails_again_or_by_a_fault_of_ours_ends_the_run(capture: Any, ends: Any, attempts: Any) -> None:
    with pytest.raises(LaunchError, match=ends[-1]):
        capture(*ends)
    assert len(capture.clean) == attempts


def test_what_succeeds_is_done_once(capture: Any) -> None:
    capture(None)
    assert (capture.clean, capture.said) == ([True], [])
