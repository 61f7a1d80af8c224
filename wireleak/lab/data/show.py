"""`wireleak data`: what data sets there are, and how private attributes depend on the task."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from wireleak.lab.data import dependence, describe, load


def show_datasets(console: Console, root: Path | None) -> None:
    """Print every data set, where it lies, or how to get it."""
    table = Table(box=None, pad_edge=False)
    for column in ("data set", "here", "examples", "shape", "task", "private attributes"):
        table.add_column(column)
    absent = []
    for one in describe(root=root):
        shape = "x".join(map(str, one.shape)) or "any"
        here = "[green]yes[/]" if one.where else "[yellow]no[/]"
        table.add_row(one.name, here, str(one.examples or "any"), shape, one.task, ", ".join(one.attributes))
        if not one.where:
            absent.append(f"{one.name}: {one.obtain}")
    console.print(table)
    for line in absent:
        console.print(line, highlight=False)


def show_dataset(console: Console, name: str, root: Path | None) -> None:
    """Print one data set in detail.

    Raises
    ------
    DataError
        Unknown, or absent: the message says how to get it.
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
