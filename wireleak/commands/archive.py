"""`wireleak runs`: list, remove and compare the runs on this disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wireleak.commands.base import app, console, fail, one_line_errors

if TYPE_CHECKING:
    from rich.table import Table

    from wireleak.lab.archive.comparing import Difference
    from wireleak.lab.archive.listing import Run

runs = typer.Typer(
    help="List, remove and compare runs on this disk.", epilog="Example: wireleak runs list", no_args_is_help=True
)
app.add_typer(runs, name="runs")


@runs.command("list", epilog="Example: wireleak runs list")
def list_(
    folder: Annotated[Path, typer.Option("--in", help="folder that holds the runs")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """List runs with their size and age, newest first."""
    with one_line_errors():
        from wireleak.lab.archive.listing import list_runs

        found = list_runs(folder)
        if as_json:
            typer.echo(json.dumps([vars(run) | {"folder": str(run.folder)} for run in found], indent=1))
        elif found:
            console.print(_listed(found))
        else:
            console.print(f"{folder} holds no runs; `wireleak run digits` makes one", soft_wrap=True)


@runs.command("rm", epilog="Example: wireleak runs rm runs/digits-20261128-101500 --yes")
def remove(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of runs")],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Remove runs with their captures; this cannot be undone."""
    with one_line_errors():
        from wireleak.lab.archive.listing import remove_runs
        from wireleak.lab.report.formatting import size

        if not yes and not _confirmed(folders):
            fail("--yes: nothing was removed; give --yes to remove without a question")
        for run in remove_runs(folders):
            console.print(f"removed {run.folder} ({size(run.bytes)})", soft_wrap=True, markup=False)


@runs.command(epilog="Example: wireleak runs compare runs/digits-latest runs/digits-20261128-101500")
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="folder of a run")],
    second: Annotated[Path, typer.Argument(metavar="B", help="folder of another run")],
    every: Annotated[bool, typer.Option("--all", help="show every measure, not only the headlines")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Compare two runs score by score, with the interval of each difference, paired by seed."""
    with one_line_errors():
        from wireleak.lab.archive.comparing import differences
        from wireleak.lab.launch.watch import working_on
        from wireleak.lab.report.boards import notes_of
        from wireleak.lab.run.results import read_results

        with working_on("comparing the runs"):
            found = differences(read_results(first), read_results(second))
        shown = found if every else _headlines(found)
        if as_json:
            typer.echo(json.dumps([_record(one) for one in shown], indent=1))
            return
        console.print(_compared(shown))
        for note in dict.fromkeys(notes_of(score for one in shown for score in (one.first, one.second) if score)):
            console.print(note, highlight=False, markup=False)
        console.print(
            "A - B: 95 % interval, paired by seed where three or more seeds are in both runs. Without it, a difference "
            "is shown where the two intervals do not overlap.",
            highlight=False,
        )


def _confirmed(folders: list[Path]) -> bool:
    try:
        return typer.confirm(f"Remove {', '.join(map(str, folders))}?", err=True)
    except typer.Abort:
        return False


def _listed(found: list[Run]) -> Table:
    from rich import box
    from rich.table import Table

    from wireleak.lab.archive.listing import age_text
    from wireleak.lab.report.formatting import size

    table = Table(box=box.HORIZONTALS, padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold")
    table.add_column("study", overflow="fold")
    for column in ("seeds", "captures", "size", "age"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for run in found:
        written, age = size(run.bytes), age_text(run.changed)
        state = "finished" if run.finished else "unfinished"
        table.add_row(run.folder.name, run.study or "?", str(run.seeds), str(run.captures), written, age, state)
    table.add_row("all", "", "", "", size(sum(run.bytes for run in found)), "", "")
    return table


def _headlines(found: list[Difference]) -> list[Difference]:
    """Keep the first measure of each attack on each target, by the order in which tables show measures."""
    from wireleak.common.measures import column_order

    first: dict[tuple[str, str, str], str] = {}
    for one in sorted(found, key=lambda one: column_order(one.measure)):
        first.setdefault((one.variant, one.target, one.attack), one.measure)
    return [one for one in found if first[one.variant, one.target, one.attack] == one.measure]


def _compared(found: list[Difference]) -> Table:
    from rich import box
    from rich.table import Table

    from wireleak.common.measures import quantity

    table = Table(box=box.HORIZONTALS, padding=0, title="A against B", title_justify="left")
    table.add_column("variant: target", overflow="fold", max_width=22)
    table.add_column("measure", overflow="fold", max_width=10)
    for column in ("A", "B"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("A - B [95 %]", overflow="fold", max_width=18)
    table.add_column("verdict", no_wrap=True)
    for one in found:
        by = f" by {one.attack}" if one.attack else ""
        values = (score.written if score else "–" for score in (one.first, one.second))
        table.add_row(
            f"{one.variant}: {one.target}{by}", quantity(one.measure).label, *values, one.written, one.verdict
        )
    return table


def _record(one: Difference) -> dict[str, Any]:
    scores = {name: score and score.value for name, score in (("a", one.first), ("b", one.second))}
    return {
        "variant": one.variant,
        "target": one.target,
        "attack": one.attack,
        "measure": one.measure,
        **scores,
        "low": one.low,
        "high": one.high,
        "verdict": one.verdict,
        "incomplete": {name: score.incomplete for name, score in (("a", one.first), ("b", one.second)) if score},
    }
