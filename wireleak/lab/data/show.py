"""`wireleak data`: the data sets, and how private attributes depend on the task."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from wireleak.lab.data import dependence, describe, load


def show_datasets(console: Console, root: Path | None) -> None:
    """Print every data set; for those not on this machine, print how to get them."""
    table = Table(box=None, pad_edge=False)
    for column in ("data set", "present", "examples", "shape", "task", "private attributes"):
        table.add_column(column)
    absent = []
    for source in describe(root=root):
        shape = "x".join(map(str, source.shape)) or "any"
        present = "[green]yes[/]" if source.where else "[yellow]no[/]"
        attributes = ", ".join(source.attributes)
        table.add_row(source.name, present, str(source.examples or "any"), shape, source.task, attributes)
        if not source.where:
            absent.append(f"{source.name}: {source.obtain}")
    console.print(table)
    for line in absent:
        console.print(line, highlight=False)


def show_dataset(console: Console, name: str, root: Path | None) -> None:
    """Print one data set in detail.

    Raises
    ------
    DataError
        The data set is unknown, or absent: the message says how to get it.
    """
    (about,) = describe(name, root)
    dataset = load(name, root)
    console.print(f"[bold]{name}[/]: {len(dataset)} examples of shape {dataset.input_shape}", highlight=False)
    console.print(f"source: {dataset.source} ({about.licence})", highlight=False, soft_wrap=True)
    shares = ", ".join(f"{label} {(dataset.y == index).mean():.1%}" for index, label in enumerate(dataset.classes))
    console.print(f"task: {dataset.task}: {shares}", highlight=False)
    table = Table(title="private attributes and their dependence on the task label", title_justify="left", box=None)
    for column in ("attribute", "classes", "from", "Cramér's V", "p", "mutual information (bits)"):
        table.add_column(column)
    for row in dependence(dataset):
        attribute = dataset.attributes[row.attribute]
        origin = "measured from the input" if attribute.measured else "annotated"
        numbers = f"{row.cramers_v:.3f}", f"{row.p:.2g}", f"{row.mutual_information_bits:.4f}"
        table.add_row(row.attribute, _listed(attribute.classes), origin, *numbers)
    console.print(table)
    if dataset.groups:
        console.print(f"groups to split by: {', '.join(dataset.groups)}", highlight=False)


def _listed(classes: tuple[str, ...], most: int = 6) -> str:
    if len(classes) <= most:
        return ", ".join(classes)
    return f"{len(classes)}: {classes[0]} … {classes[-1]}"
