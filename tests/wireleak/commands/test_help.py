"""`wireleak COMMAND --help` explains every argument and option."""

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from wireleak.cli import app

GROUP: Any = typer.main.get_command(app)


@pytest.mark.parametrize("name", GROUP.commands)
def test_help_explains_every_argument_and_option(name: str) -> None:
    command = GROUP.commands[name]
    unexplained = [parameter.name for parameter in command.params if not parameter.help]
    assert unexplained == []
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "400"}).output
    missing = [parameter.name for parameter in command.params if parameter.help not in shown]
    assert missing == []
