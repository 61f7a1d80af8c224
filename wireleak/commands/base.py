"""The application, the options that commands share, and the handling of user errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn, Optional

import typer
from rich.console import Console

app = typer.Typer(
    help="Measure what an eavesdropper learns from a split or federated model, from bytes captured on the wire.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()
USER_ERROR = 2
DATA_HELP = "folder that holds data sets (default: $WIRELEAK_DATA, then ~/.cache/wireleak/data)"
DataOption = Annotated[Optional[Path], typer.Option("--data", help=DATA_HELP)]  # noqa: UP045
OutOption = Annotated[Path, typer.Option("--out", help="folder in which the run's folder is created")]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, help="number of cells, and of attacks, that run at once")]


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # no other command needs it at its start

        typer.echo(f"wireleak {version('wireleak')}")
        raise typer.Exit


@app.callback()
def _main(
    shown: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None: ...


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a user's mistake into one line on stderr and exit status 2; a bug keeps its traceback."""
    from wireleak.lab.errors import expected_errors

    try:
        yield
    except expected_errors() as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted; every process was stopped", status=130)


def fail(line: str, status: int = USER_ERROR) -> NoReturn:
    """Print one line on stderr and exit."""
    typer.echo(f"wireleak: {' '.join(line.split())}", err=True)
    raise typer.Exit(status)


def become_adversary(*argv: str) -> NoReturn:
    """Replace this process by the adversary's, a trust domain that is reached only by its command line."""
    from wireleak.lab.launch.parties import foreign_party

    if (refusal := foreign_party()) is not None:
        fail(refusal)
    sys.stdout.flush()
    execv: Callable[[str, list[str]], NoReturn] = os.execv
    execv(sys.executable, [sys.executable, "-P", "-m", "adversary", *argv])
