"""The command that says which leaks a study can show."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from wireleak.commands.base import RootOption, app, console, one_line_errors
from wireleak.common.words import counted

if TYPE_CHECKING:
    from wireleak.lab.power.design import Design
    from wireleak.lab.power.simulation import Power
    from wireleak.lab.study.schema import Study

EFFECTS = {"auc": 0.6, "reid": 0.05}


@app.command(epilog="Example: wireleak power digits --effect auc=.65")
def power(
    study: Annotated[str, typer.Argument(help="study, or .toml file")],
    effect: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--effect", help="wanted leak, auc=VALUE or reid=VALUE (default: auc=0.6 and reid=0.05)"),
    ] = None,
    seeds: Annotated[Optional[int], typer.Option("--seeds", min=1, help="seeds instead of the study's")] = None,  # noqa: UP045
    victims: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--victims", min=10, help="victims of each seed instead of the study's"),
    ] = None,
    root: RootOption = None,
) -> None:
    """Say which leak a study shows with probability 0.8, and the seeds or victims that a wanted leak needs.

    Runs are simulated with the study's seeds, victims and persons, and judged by the report's own rule. Nothing is
    trained.
    """
    with one_line_errors():
        from wireleak.lab.study.library import load_study

        wanted = EFFECTS | dict(map(_effect, effect or []))
        loaded, _ = load_study(study)
        for line in lines(loaded, wanted, seeds, victims, root):
            console.print(line, highlight=False, markup=False)


def _effect(text: str) -> tuple[str, float]:
    from wireleak.common.registry import unknown
    from wireleak.lab.study.schema import StudyError

    name, _, value = text.partition("=")
    if name not in EFFECTS:
        raise StudyError(f"--effect: {unknown('measure', name, EFFECTS)}")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    least = 0.5 if name == "auc" else 0.0
    if not least < number <= 1:
        raise StudyError(f"--effect: {text!r} must be {name}=NUMBER above {least:g} and at most 1")
    return name, number


def lines(
    study: Study,
    wanted: dict[str, float],
    seeds: int | None = None,
    victims: int | None = None,
    root: Path | None = None,
) -> Iterator[object]:
    """Yield a table of what each target of a study resolves, and the assumptions behind it."""
    from rich import box
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from wireleak.common.measures import quantity
    from wireleak.lab.launch.watch import working, working_on
    from wireleak.lab.power.design import designs
    from wireleak.lab.power.simulation import SEED_SPREAD, WITHIN_PERSON, power

    table = Table(title=f"{study.name}: leaks shown with probability 0.8", title_justify="left", box=box.HORIZONTALS)
    table.padding = 0
    table.add_column("target", width=14, overflow="fold")
    for column in ("seeds", "victims", "people"):
        table.add_column(column, justify="right", width=len(column))
    table.add_column(" smallest leak", width=20)
    table.add_column("wanted leak", width=20, overflow="fold")
    with working_on("reading the data"):
        found = [one.resized(seeds, victims) for one in designs(study, root)]
    if not found:
        yield f"{study.name}: no target is judged by AUC or re-identification, so there is nothing to simulate."
        return
    bars = Progress(console=console, transient=True, disable=not console.is_terminal)
    with bars as progress, working(Console(stderr=True)) as work:
        for number, one in enumerate(found, 1):
            names = ", ".join(one.targets)
            what = f"simulating design {number} of {len(found)}: {names}"
            line = progress.add_task(what, total=None)
            if not console.is_terminal:
                typer.echo(what, err=True)
            work.now(what)
            effect, how = wanted[one.measure], quantity(one.measure)
            made = power(one, effect, lambda line=line: progress.advance(line))  # type: ignore[misc]
            progress.remove_task(line)
            smallest = " none" if math.isnan(made.smallest) else f" {how.label} {how.write(made.smallest)}"
            table.add_row(
                names,
                str(one.seeds),
                f"{one.victims:,}",
                "–" if one.persons is None else str(one.persons),
                smallest,
                f"{how.write(effect)}: {_answer(one, effect, made)}",
            )
    yield table
    for one in (one for one in found if one.known):
        yield f"The task label tells {', '.join(one.targets)} with AUC {one.known:.2f}; only more is a leak."
    yield (
        f"Assumed: seeds differ by AUC {SEED_SPREAD:g} for reasons other than victims; of a person's scores "
        f"{WITHIN_PERSON * 100:g} % of the variance is the person's. MSE is not simulated."
    )


def _answer(design: Design, effect: float, made: Power) -> str:
    """Say whether the wanted leak is shown, or the seeds or victims that it needs."""
    if effect <= design.known:
        return "no more than the task label tells"
    needs = [counted(made.seeds, "seed")] if made.seeds is not None else []
    needs += [f"{made.victims:,} victims"] if made.victims is not None else []
    resolved = made.seeds == design.seeds and made.victims == design.victims
    remedy = "shown" if resolved else f"needs {' or '.join(needs)}" if needs else "no tried size shows it"
    return f"{made.probability * 100:.0f} %; {remedy}"
