"""The command that lists data sets."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from wireleak.commands.base import RootOption, app, console, one_line_errors


@app.command(epilog="Example: wireleak data digits")
def data(
    name: Annotated[Optional[str], typer.Argument(help="data set to show in detail (default: list all)")] = None,  # noqa: UP045
    root: RootOption = None,
) -> None:
    """List data sets, or show one: its task, private attributes, and their dependence on the task."""
    with one_line_errors():
        from wireleak.lab.data.show import show_dataset, show_datasets

        if name is None:
            show_datasets(console, root)
        else:
            show_dataset(console, name, root)
