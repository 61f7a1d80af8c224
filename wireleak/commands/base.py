"""The application, the options that commands share, and the handling of user errors."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn, Optional

import typer
from rich.console import Console

from wireleak.common.program import INTERRUPTED, SETTINGS, USER_ERROR, Version

app = typer.Typer(
    help="Measure what an eavesdropper learns from a split or federated model, from bytes captured on the wire.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
)
console = Console()
# What the user's disk and folders may answer; any other OSError is a bug.
_CANNOT_WRITE = (errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EPERM, errno.EROFS)


def existing(folder: Path | None) -> Path | None:
    """Refuse a folder that does not exist, as a callback of an option."""
    if folder is not None and not folder.expanduser().is_dir():
        raise typer.BadParameter(f"no folder {folder}; name one that exists, or leave the option out")
    return folder


def writable(folder: Path | None) -> Path | None:
    """Refuse a folder in which nothing can be made, as a callback of an option."""
    if folder is None:
        return None
    nearest = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise typer.BadParameter(f"cannot create {folder}: {nearest} is not a folder that you can write to")
    return folder


RootOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--root",
        callback=existing,
        help="folder that holds data sets (default: $WIRELEAK_DATA, then ~/.cache/wireleak/data)",
    ),
]
OutOption = Annotated[
    Path, typer.Option("--out", callback=writable, help="folder in which the run's folder is created")
]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, help="number of cells, and of attacks, that run at once")]


@app.callback()
def _main(version: Version = False) -> None: ...


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a user's mistake into one line on stderr and exit status 2; a bug keeps its traceback."""
    from wireleak.lab.errors import expected_errors

    # A service manager's SIGTERM must stop all processes, as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except expected_errors() as error:
        fail(str(error))
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        where = f"{error.filename} cannot be written: " if error.filename else ""
        fail(f"{where}{error.strerror}; free space, or choose a folder that you can write to")
    except KeyboardInterrupt as error:
        how = f"; {error}" if error.args else ""
        fail(f"interrupted; every process was stopped{how}", status=INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


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
