"""Commands that make a run or read a finished one."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Optional

import typer

from wireleak.commands.base import JobsOption, OutOption, RootOption, app, console, one_line_errors


@app.command(epilog="Example: wireleak run digits --out runs")
def run(
    study: Annotated[str, typer.Argument(help="name that `wireleak studies` lists, or a .toml file")],
    out: OutOption = Path("runs"),
    resume: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="folder of a run to continue: one that was interrupted, or one that needs more seeds"),
    ] = None,
    root: RootOption = None,
    seeds: Annotated[Optional[int], typer.Option(min=1, help="run with seeds 0 to N-1 instead of the study's")] = None,  # noqa: UP045
    secret: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="file with another run's secret (its sealed/secret), to repeat its draws (default: WIRELEAK_SECRET)"
        ),
    ] = None,
    jobs: JobsOption = 2,
    preload: Annotated[bool, typer.Option(help="start processes by forking a preloaded interpreter")] = True,
    ray: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="ADDRESS",
            help="run captures and attacks on a Ray cluster: auto (that of this machine) or HOST:PORT of its head",
        ),
    ] = None,
) -> None:
    """Run a study: launch all parties, capture their traffic, attack it, score, and write a report."""
    with one_line_errors(), ExitStack() as stack:
        from wireleak.lab.steps.run import run_study

        executor = None
        if ray is not None:
            from wireleak.lab.cluster.executor import on_cluster

            executor = stack.enter_context(on_cluster(ray, console))
        run_study(
            study,
            out,
            resume=resume,
            data=root,
            seeds=seeds,
            secret=secret,
            jobs=jobs,
            preload=preload,
            executor=executor,
            console=console,
        )


@app.command(epilog="Example: wireleak report runs/digits-latest")
def report(run: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")]) -> None:
    """Write a run's report.html again from its results."""
    with one_line_errors():
        from wireleak.lab.launch.watch import working_on
        from wireleak.lab.report.page import render

        with working_on("drawing the report"):
            page = render(run)
        console.print(f"report: {page}", soft_wrap=True)


@app.command(epilog="Example: wireleak figures runs/digits-latest --format pdf --out paper")
def figures(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")],
    format: Annotated[str, typer.Option(help="pdf, png or svg; rows of pictures are always png")] = "pdf",
    out: Annotated[Optional[Path], typer.Option(help="folder for the files (default: RUN/figures)")] = None,  # noqa: UP045
    only: Annotated[Optional[str], typer.Option(metavar="NAME", help="write only the figure of this name")] = None,  # noqa: UP045
) -> None:
    """Write each figure of a run as a file, for a paper."""
    with one_line_errors():
        from wireleak.lab.launch.watch import working_on
        from wireleak.lab.report.export import write_figures

        with working_on("drawing the figures"):
            for path in write_figures(run, format, out, only):
                console.print(str(path), soft_wrap=True, markup=False, highlight=False)


@app.command(epilog="Example: wireleak layers runs/digits-latest --examples 500")
def layers(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a finished run")],
    variant: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="variant to profile (default: the first that finished)"),
    ] = None,
    seed: Annotated[Optional[int], typer.Option(min=0, help="seed to profile (default: the variant's first)")] = None,  # noqa: UP045
    examples: Annotated[int, typer.Option(min=1, help="largest number of victims' inputs to use")] = 1000,
    permutations: Annotated[int, typer.Option(min=1, help="random permutations behind each null")] = 20,
    group: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="column whose values never appear in both training and test folds (default: the study's disjoint_by)"
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="number of processes that measure at once")] = 2,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on after an interruption; give the same options")
    ] = False,
) -> None:
    """Measure the private information in each layer of a trained network, with an analyst's access."""
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
            resume=resume,
            console=console,
        )
