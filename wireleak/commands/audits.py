"""Commands that measure a user's own network."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console

from wireleak.commands.base import JobsOption, OutOption, RootOption, app, console, one_line_errors

# Exit status of an audit whose every cut leaks more than --fail-above allows.
FAILED_LIMIT = 3
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
WeightsOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--weights", help="trained weights of your network: safetensors, or a torch state dict"),
]
EpochsOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--epochs", min=0, help="passes over the training data (default: 0 with --weights, else 9)"),
]
RateOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--lr", min=1e-9, max=10.0, help="learning rate (default: 0.0003 with --weights, else 0.002)"),
]
FrozenOption = Annotated[
    bool,
    typer.Option("--frozen-encoder", help="train only the blocks after the cut, as for a device with a fixed part"),
]
MemoryOption = Annotated[str, typer.Option("--memory", help="memory for all processes together, as 4G or 1500M")]
ResumeOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--resume", help="folder of an interrupted run, to go on with; give the same options"),
]


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
    weights: WeightsOption = None,
    epochs: EpochsOption = None,
    lr: RateOption = None,
    frozen_encoder: FrozenOption = False,
    budget: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="time in which the audit ends, as 90s, 20m or 1h; it then attacks where that decides most"),
    ] = None,
    memory: MemoryOption = "4G",
    resume: ResumeOption = None,
    fail_above: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="exit with status 3 if the cut that leaks least is above this, as reid=5% or auc=0.6; repeatable"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print the cuts as JSON on stdout, and progress on stderr")
    ] = False,
) -> None:
    """Train, serve and attack your own network at each cut, and report which cut leaks least."""
    with one_line_errors():
        from wireleak.lab.audit import options
        from wireleak.lab.audit.audit import audit as run_audit
        from wireleak.lab.audit.clock import process_seconds
        from wireleak.lab.audit.subject import Request

        limits = options.limits(tuple(fail_above or ()))
        request = Request(
            model,
            data,
            task,
            None if attributes is None else options.words(attributes),
            None if cuts is None else options.numbers(cuts),
            tuple(option or ()),
            disjoint_by,
            seeds,
            quick,
            root,
            weights=None if weights is None else weights.absolute(),
            epochs=epochs,
            learning_rate=lr,
            frozen_encoder=frozen_encoder,
            budget=None if budget is None else options.seconds(budget),
            memory=options.memory(memory),
        )
        # A network may print while it is built, and stdout is for the figures.
        with redirect_stdout(sys.stderr) if as_json else nullcontext():
            page = run_audit(
                request, out, jobs, Console(stderr=True) if as_json else console, resume, process_seconds()
            )
    written = json.loads(page.with_suffix(".json").read_text())
    if as_json:
        typer.echo(json.dumps(written, indent=1))
    over = options.exceeded(written["cuts"], limits)
    for line in over:
        typer.echo(f"wireleak: {line}", err=True)
    if over:
        raise typer.Exit(FAILED_LIMIT)


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
    weights: WeightsOption = None,
    epochs: EpochsOption = None,
    lr: RateOption = None,
    frozen_encoder: FrozenOption = False,
    memory: MemoryOption = "4G",
    resume: ResumeOption = None,
) -> None:
    """Try defences on your own network and report which reduces leakage most within the accuracy budget."""
    with one_line_errors():
        from wireleak.lab.audit import options
        from wireleak.lab.audit.defend import defend as run_defend
        from wireleak.lab.audit.defend import percent
        from wireleak.lab.audit.subject import Request

        request = Request(
            model,
            data,
            task,
            None if attributes is None else options.words(attributes),
            None if cut is None else (cut,),
            tuple(option or ()),
            disjoint_by,
            seeds,
            quick,
            root,
            weights=None if weights is None else weights.absolute(),
            epochs=epochs,
            learning_rate=lr,
            frozen_encoder=frozen_encoder,
            memory=options.memory(memory),
        )
        run_defend(request, protect, percent(budget), out, jobs, console, resume)
