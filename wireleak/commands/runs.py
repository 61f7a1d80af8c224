"""Commands that make a run or read one."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Optional

import typer

from wireleak.commands.base import DataOption, JobsOption, OutOption, app, console, one_line_errors


@app.command(epilog="Example: wireleak run digits --out runs")
def run(
    study: Annotated[str, typer.Argument(help="a name that `wireleak studies` lists, or a .toml file")],
    out: OutOption = Path("runs"),
    resume: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="go on with a run's folder: interrupted, or to get more seeds"),
    ] = None,
    data: DataOption = None,
    seeds: Annotated[Optional[int], typer.Option(min=1, help="run with seeds 0 to N-1 instead")] = None,  # noqa: UP045
    jobs: JobsOption = 2,
    preload: Annotated[bool, typer.Option(help="start processes by forking a preloaded interpreter")] = True,
) -> None:
    """Run a study: launch, capture, attack, score, report."""
    # A service manager's SIGTERM ends the run in order, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with one_line_errors():
        from wireleak.lab.steps.run import run_study

        run_study(study, out, resume=resume, data=data, seeds=seeds, jobs=jobs, preload=preload, console=console)


@app.command(epilog="Example: wireleak report runs/digits-latest")
def report(run: Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder")]) -> None:
    """Make a run's report.html again from its results."""
    with one_line_errors():
        from wireleak.lab.report.page import render

        console.print(f"report: {render(run)}", soft_wrap=True)


@app.command(epilog="Example: wireleak figures runs/digits-latest --format pdf --out paper")
def figures(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder")],
    format: Annotated[str, typer.Option(help="pdf, png or svg; rows of pictures are png in any case")] = "pdf",
    out: Annotated[Optional[Path], typer.Option(help="where the files go (default: RUN/figures)")] = None,  # noqa: UP045
    only: Annotated[Optional[str], typer.Option(metavar="NAME", help="write only the figure of this name")] = None,  # noqa: UP045
) -> None:
    """Write each figure of a run as a file, for a paper."""
    with one_line_errors():
        from wireleak.lab.report.export import write_figures

        for path in write_figures(run, format, out, only):
            console.print(str(path), soft_wrap=True, markup=False, highlight=False)


@app.command(epilog="Example: wireleak layers runs/digits-latest --examples 500")
def layers(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a finished run's folder")],
    variant: Annotated[Optional[str], typer.Option(help="which variant (default: the first that finished)")] = None,  # noqa: UP045
    seed: Annotated[Optional[int], typer.Option(min=0, help="which seed (default: its first)")] = None,  # noqa: UP045
    examples: Annotated[int, typer.Option(min=1, help="at most so many of the victims' inputs")] = 1000,
    permutations: Annotated[int, typer.Option(min=1, help="draws of each null")] = 20,
    group: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="no value of this group is both fitted and judged on (default: the study's disjoint_by)"),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="how many processes measure at once")] = 2,
) -> None:
    """Show what each layer of a trained network knows beside its task: maps, probes, bits; the analyst's view."""
    with one_line_errors():
        from wireleak.lab.layers.profile import profile_layers

        profile_layers(
            run,
            variant,
            seed,
            examples=examples,
            permutations=permutations,
            group=group,
            jobs=jobs,
            console=console,
        )
