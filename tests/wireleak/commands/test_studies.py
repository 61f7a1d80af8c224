"""`wireleak studies`: a list that fits a terminal, one study in full, and a hint for a wrong name."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wireleak.commands.studies import GROUPS, question
from wireleak.lab.study.library import load_study, study_files


def studies(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run the command as a reader sees it on a terminal of 80 columns."""
    return subprocess.run(
        [sys.executable, "-m", "wireleak", "studies", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"COLUMNS": "80"},
    )


def test_each_study_has_one_line_of_at_most_80_columns(tmp_path: Path) -> None:
    done = studies("--root", str(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    for name in study_files():
        study, _ = load_study(name)
        (line,) = (line for line in lines if line[2:].startswith(f"{name} "))
        assert line.endswith(question(study)) and "…" not in line


def test_studies_are_grouped_by_the_folders_of_the_library() -> None:
    assert {path.parent.name for path in study_files().values()} == set(GROUPS)


def test_studies_without_their_data_are_marked(tmp_path: Path) -> None:
    lines = studies("--root", str(tmp_path)).stdout.splitlines()
    marked = {line.split()[1] for line in lines if line.startswith("* ") and "?" in line}
    assert "faces" in marked and "digits" not in marked


@pytest.mark.parametrize("name", sorted(study_files()))
def test_every_study_begins_with_a_question(name: Any) -> None:
    study, _ = load_study(name)
    assert question(study).endswith("?")


def test_one_study_is_shown_in_full() -> None:
    shown = studies("aggregation").stdout
    study, path = load_study("aggregation")
    for variant in study.variants:
        assert f"\n{variant.name} " in shown
    for attack in study.attacks:
        assert f"\n{attack.shown} " in shown
    assert "at participant" in shown and "seeds" in shown and path.name in shown


def test_absent_data_are_said_with_the_way_to_get_them(tmp_path: Path) -> None:
    assert "not on this machine" in studies("faces", "--root", str(tmp_path)).stdout


def test_an_unknown_study_names_the_nearest() -> None:
    done = studies("digts")
    assert done.returncode == 2
    assert done.stderr.startswith("wireleak: study: no study or file called 'digts'; did you mean 'digits'?")
    assert len(done.stderr.splitlines()) == 1
