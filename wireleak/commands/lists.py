"""Commands that list what there is to choose from."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from wireleak.commands.base import DataOption, app, console, one_line_errors


@app.command(epilog="Example: wireleak data digits")
def data(
    name: Annotated[Optional[str], typer.Argument(help="one data set, in detail")] = None,  # noqa: UP045
    root: DataOption = None,
) -> None:
    """List the data sets, or show one: task, private attributes, and how they depend on the task."""
    with one_line_errors():
        from wireleak.lab.data.show import show_dataset, show_datasets

        if name is None:
            show_datasets(console, root)
        else:
            show_dataset(console, name, root)
