"""What the command lines of all programs share: -h, --version, and a mistake in one line that suggests names."""

from __future__ import annotations

from typing import Annotated

import click
import typer

USER_ERROR = 2
INTERRUPTED = 130
SETTINGS = {"help_option_names": ["-h", "--help"]}
# Options of earlier versions: their names now.
_RENAMED = {"--data": "--root"}


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # no other command needs it at its start

        typer.echo(f"wireleak {version('wireleak')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
]


def application(about: str | None) -> typer.Typer:
    """Return the command line of a party's program, without commands yet; `about` is its help."""
    made = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help=about,
        context_settings=SETTINGS,
    )

    @made.callback()
    def _main(version: Version = False) -> None: ...

    return made


def start(app: typer.Typer, name: str) -> int:
    """Run a command line and return its exit status; a mistake in it is one line on stderr.

    Parameters
    ----------
    app : typer.Typer
    name : str
        The program as the user calls it: "wireleak", "python -m adversary".
    """
    try:
        status = app(prog_name=name, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USER_ERROR
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else name
        # typer and click both suggest names.
        said = error.message if "Did you mean" in error.message else error.format_message()
        if isinstance(error, click.NoSuchOption) and (now := _RENAMED.get(error.option_name)) in _options(error):
            said = f"No such option '{error.option_name}': the folder that holds data sets is now {now}."
        line = " ".join(said.split())
        stop = "." if line[-1].isalnum() else ""
        typer.echo(f"{name.rpartition(' ')[2]}: {line}{stop} See {command} --help", err=True)
        return USER_ERROR
    except click.Abort:
        return INTERRUPTED
    except KeyboardInterrupt:  # before the command itself had begun
        typer.echo(f"{name.rpartition(' ')[2]}: interrupted", err=True)
        return INTERRUPTED
    return int(status or 0)


def _options(error: click.UsageError) -> list[str]:
    """Return the options of the command in which a mistake was found."""
    return [name for parameter in error.ctx.command.params for name in parameter.opts] if error.ctx else []
