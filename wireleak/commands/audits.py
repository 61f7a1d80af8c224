"""Commands that measure a user's own network."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Optional

import typer

from wireleak.commands.base import DATA_HELP, JobsOption, OutOption, app, console, one_line_errors

# Arguments and options that `audit` and `defend` share.
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODULE:FACTORY", help="function that builds your network; FILE.py:FACTORY also works")
]
SourceOption = Annotated[
    str, typer.Option("--data", help="name of a data set, folder of images with a CSV, or CSV of texts")
]
TaskOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--task", help="column or attribute that the network learns to predict"),
]
AttributesOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--attributes", help="private attributes to attack, as a,b (default: all)"),
]
DisjointOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--disjoint-by", help="column such as author or person; clients, attacker and victims share no value of it"
    ),
]
DataOptionsOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--option", help="option of the data set as name=value; repeatable"),
]
RootOption = Annotated[Optional[Path], typer.Option("--root", help=DATA_HELP)]  # noqa: UP045


@app.command(epilog="Example: wireleak audit examples/audit_model.py:make --data digits --quick")
def audit(
    model: ModelArgument,
    data: SourceOption,
    task: TaskOption = None,
    attributes: AttributesOption = None,
    cuts: Annotated[Optional[str], typer.Option(help="cuts to audit, as 1,3 (default: up to six)")] = None,  # noqa: UP045
    out: OutOption = Path("runs"),
    seeds: Annotated[int, typer.Option(min=1, help="run with seeds 0 to N-1")] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="use fewer examples, rounds and attackers for a first look")
    ] = False,
    disjoint_by: DisjointOption = None,
    option: DataOptionsOption = None,
    root: RootOption = None,
    jobs: JobsOption = 2,
) -> None:
    """Train, serve and attack your own network at each cut, and report which cut leaks least."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with one_line_errors():
        from wireleak.lab.audit.audit import audit as run_audit
        from wireleak.lab.audit.subject import Request, numbers, words

        chosen = None if attributes is None else words(attributes)
        places = None if cuts is None else numbers(cuts)
        request = Request(model, data, task, chosen, places, tuple(option or ()), disjoint_by, seeds, quick, root)
        run_audit(request, out, jobs, console)


@app.command(epilog="Example: wireleak defend examples/audit_model.py:make --data digits --protect slant --budget 2%")
def defend(
    model: ModelArgument,
    data: SourceOption,
    budget: Annotated[str, typer.Option(help="accuracy that a defence may cost, as 2% or 0.02")] = "2%",
    protect: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="private attribute that defences train against (default: the first)"),
    ] = None,
    task: TaskOption = None,
    attributes: AttributesOption = None,
    cut: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="where to cut the network (default: fewest numbers on the wire)"),
    ] = None,
    out: OutOption = Path("runs"),
    seeds: Annotated[int, typer.Option(min=1, help="run with seeds 0 to N-1; one seed gives no interval")] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="use fewer examples, rounds and settings for a first look")
    ] = False,
    disjoint_by: DisjointOption = None,
    option: DataOptionsOption = None,
    root: RootOption = None,
    jobs: JobsOption = 2,
) -> None:
    """Try defences on your own network and report which reduces leakage most within the accuracy budget."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with one_line_errors():
        from wireleak.lab.audit.defend import defend as run_defend
        from wireleak.lab.audit.defend import percent
        from wireleak.lab.audit.subject import Request, words

        chosen = None if attributes is None else words(attributes)
        cuts = None if cut is None else (cut,)
        request = Request(model, data, task, chosen, cuts, tuple(option or ()), disjoint_by, seeds, quick, root)
        run_defend(request, protect, percent(budget), out, jobs, console)
