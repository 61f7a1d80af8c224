"""Commands that list what there is to choose from."""

from __future__ import annotations

from typing import Annotated, Optional

import typer
from rich.table import Table

from wireleak.commands.base import DataOption, app, console, one_line_errors


@app.command(epilog="Example: wireleak studies")
def studies() -> None:
    """List the studies that come with wireleak."""
    from wireleak.lab.study.library import load_study, study_files

    table = Table(box=None)
    for column in ("study", "data", "variants", "attacks", "what it asks"):
        table.add_column(column)
    for name in study_files():
        with one_line_errors():
            study, _ = load_study(name)
        variants, attacks = (", ".join(part.name for part in parts) for parts in (study.variants, study.attacks))
        table.add_row(name, study.data.name, variants, attacks, study.description)
    console.print(table)


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
