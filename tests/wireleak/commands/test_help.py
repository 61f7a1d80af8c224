"""`-h` of every command explains every argument and option, of `wireleak` and of each party's program."""

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from wireleak.cli import app

PROGRAMS = {"wireleak": app} | {
    name: import_module(f"{name}.__main__").app for name in ("adversary", "client", "server")
}


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command of a program with the words that call it."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


CASES: list[Any] = [
    pytest.param(path, command, id=" ".join(path))
    for name, program in PROGRAMS.items()
    for path, command in commands(typer.main.get_command(program), (name,))
]


@pytest.mark.parametrize(("path", "command"), CASES)
def test_help_explains_every_argument_and_option(path: tuple[str, ...], command: Any) -> None:
    unexplained = [parameter.name for parameter in command.params if not parameter.help]
    assert unexplained == []
    shown = CliRunner().invoke(PROGRAMS[path[0]], [*path[1:], "-h"], env={"COLUMNS": "400"}).output
    missing = [parameter.name for parameter in command.params if parameter.help not in shown]
    assert missing == [] and "Usage:" in shown


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_says_its_version(name: str) -> None:
    assert CliRunner().invoke(PROGRAMS[name], ["--version"]).output == f"wireleak {version('wireleak')}\n"
