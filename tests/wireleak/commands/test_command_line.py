"""The command line itself: a mistake is one line that names it and the fix; -h, --version and completion work."""

import os
import subprocess
import sys
from importlib.metadata import version

import pytest

from wireleak.cli import start


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["wireleak", *arguments])
    return start()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["rn"], "No such command 'rn'. Did you mean 'run', 'runs'? See wireleak --help"),
        (["runs", "lst"], "No such command 'lst'. Did you mean 'list'? See wireleak runs --help"),
        (["run", "digits", "--seds"], "No such option '--seds'. Did you mean '--seeds'? See wireleak run --help"),
        (["run"], "Missing argument 'STUDY'. See wireleak run --help"),
        (
            ["run", "digits", "--seeds", "0"],
            "Invalid value for '--seeds': 0 is not in the range x>=1. See wireleak run",
        ),
        (["report", "a", "b"], "Got unexpected extra argument (b) See wireleak report --help"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith(f"wireleak: {line}")


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["run", "-h"], ["runs", "rm", "-h"]])
def test_help_is_printed(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, *arguments) == 0
    assert "Usage: wireleak" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["runs"]])
def test_without_a_command_the_help_is_printed_and_the_status_says_that_nothing_ran(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, *arguments) == 2
    assert "Usage: wireleak" in "".join(capsys.readouterr())


def test_the_version_is_the_installed_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"wireleak {version('wireleak')}\n"


def test_a_shell_is_offered_the_commands() -> None:
    asked = {"_WIRELEAK_COMPLETE": "complete_bash", "COMP_WORDS": "wireleak stu", "COMP_CWORD": "1"}
    asked["_TYPER_COMPLETE_ARGS"] = "wireleak stu"
    command = [sys.executable, "-P", "-m", "wireleak"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | asked)
    assert done.stdout.split() == ["studies"]


def test_a_reader_that_leaves_early_sees_no_traceback() -> None:
    command = f"{sys.executable} -P -m wireleak --help | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr


def test_ctrl_c_before_the_command_begins_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wireleak.cli.app", interrupted)
    assert (called(monkeypatch, "run"), capsys.readouterr().err) == (130, "wireleak: interrupted\n")
