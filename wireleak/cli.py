"""The `wireleak` command: its groups of commands, in the order of `--help`."""

from importlib import import_module

import click
import typer

from wireleak.commands.base import USER_ERROR, app

GROUPS = (
    *("runs", "archive", "studies", "power", "lists", "schema", "plugins", "traffic", "audits", "export", "serve"),
    "pi",
)

for group in GROUPS:
    import_module(f"wireleak.commands.{group}")


def start() -> int:
    """Run the command line and return its exit status; a mistake in it is one line on stderr."""
    try:
        status = app(prog_name="wireleak", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USER_ERROR
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "wireleak"
        # typer and click both suggest names.
        said = error.message if "Did you mean" in error.message else error.format_message()
        typer.echo(f"wireleak: {' '.join(said.split())} See {command} --help", err=True)
        return USER_ERROR
    except click.Abort:
        return 130
    return int(status or 0)


__all__ = ["app", "start"]
