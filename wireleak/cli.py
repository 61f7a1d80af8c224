"""The `wireleak` command."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn, Optional

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    help="What an eavesdropper learns from a split or federated model, measured on the bytes that crossed the wire.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
console = Console()
USER_ERROR = 2
DATA_HELP = "folder that holds data sets (default: $WIRELEAK_DATA, the user's cache, ../shared/data)"
DataOption = Annotated[Optional[Path], typer.Option("--data", help=DATA_HELP)]  # noqa: UP045
# What `audit` and `defend` both ask of a user's own network and data.
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODULE:FACTORY", help="what builds your network; or FILE.py:FACTORY")
]
SourceOption = Annotated[
    str, typer.Option("--data", help="a data set's name, a folder of images with a CSV, or a CSV of texts")
]
TaskOption = Annotated[Optional[str], typer.Option("--task", help="column or attribute that the network learns")]  # noqa: UP045
AttributesOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--attributes", help="private attributes, a,b (default: all)"),
]
DisjointOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--disjoint-by", help="group (an author, a person) of which clients, attacker and victims share no value"
    ),
]
DataOptionsOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--option", help="the data set's option, name=value; repeatable"),
]
RootOption = Annotated[Optional[Path], typer.Option("--root", help=DATA_HELP)]  # noqa: UP045
OutOption = Annotated[Path, typer.Option("--out", help="where the run's folder is made")]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, help="how many cells or attacks run at once")]


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


@app.command(epilog="Example: wireleak tap --listen 127.0.0.1:9000 --upstream 127.0.0.1:9092 --output link.pcap")
def tap(
    listen: Annotated[str, typer.Option(help="host:port that clients connect to")],
    upstream: Annotated[str, typer.Option(help="host:port of the real server")],
    output: Annotated[Path, typer.Option(help="pcap file to write")],
) -> None:
    """Relay a TCP link and record what crosses it (no privileges needed); Ctrl-C ends it."""
    become_adversary("relay", "--listen", listen, "--upstream", upstream, "--output", str(output))


@app.command(epilog="Example: wireleak sniff --interface lo --output lo.pcap --filter 'tcp port 9092'")
def sniff(
    interface: Annotated[str, typer.Option(help="network interface")],
    output: Annotated[Path, typer.Option(help="pcap file to write")],
    filter: Annotated[str, typer.Option(help="tcpdump filter")] = "tcp",
) -> None:
    """Record an interface with tcpdump (needs the right to capture); Ctrl-C ends it."""
    become_adversary("sniff", "--interface", interface, "--output", str(output), "--filter", filter)


@app.command(epilog="Example: wireleak inspect runs/digits-latest/wide-seed0/tap/serve-victim.pcap --json")
def inspect(
    captures: Annotated[list[Path], typer.Argument(metavar="CAPTURE...", help="pcap or pcapng files")],
    json: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
) -> None:
    """Show what a capture holds: who talked, calls, kinds, tensor shapes, bytes, times."""
    become_adversary("inspect", *map(str, captures), *(["--json"] if json else []))


@app.command(epilog="Example: wireleak attack runs/digits-latest/wide-seed0/tap/serve-victim.pcap --attack inversion")
def attack(
    capture: Annotated[Path, typer.Argument(help="the victims' capture")],
    attack: Annotated[str, typer.Option(help="attack's name")] = "inversion",
    target: Annotated[
        str, typer.Option(help='"input", "label", "member", "secret", "canary", or a private attribute')
    ] = "input",
    device: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="capture of the attacker's own device (default: serve-attacker.pcap beside)"),
    ] = None,
    surrogate: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="the attacker's inputs, .npz (default: the run's granted file)"),
    ] = None,
    encoder: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="the encoder's weights, for attacks that know them (default: the run's)"),
    ] = None,
    head: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="the head's weights, for attacks that know them (default: the run's)"),
    ] = None,
    model: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="JSON of the network's config, for attacks that know it (default: the run's)"),
    ] = None,
    victims: Annotated[Optional[int], typer.Option(min=1, help="how many inputs the victims sent")] = None,  # noqa: UP045
    vantage: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="where an attack on federated training sits: link, server, participant, …"),
    ] = None,
    option: Annotated[Optional[list[str]], typer.Option(help="the attack's option, name=value; repeatable")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Optional[Path], typer.Option(help="where guesses go (default: beside the run's attacks)")] = None,  # noqa: UP045
) -> None:
    """Attack a recorded capture, today or years later; scored where the run's ground truth is at hand."""
    with one_line_errors():
        from wireleak.lab.steps.again import Given, attack_again

        given = Given(device, surrogate, encoder, head, model, victims, option or [], vantage)
        attack_again(capture, attack, target, given, seed, out, console)


@app.command(epilog="Example: wireleak audit examples/audit_model.py:make --data digits --quick")
def audit(
    model: ModelArgument,
    data: SourceOption,
    task: TaskOption = None,
    attributes: AttributesOption = None,
    cuts: Annotated[Optional[str], typer.Option(help="cuts, 1,3 (default: up to six)")] = None,  # noqa: UP045
    out: OutOption = Path("runs"),
    seeds: Annotated[int, typer.Option(min=1, help="run with seeds 0 to N-1")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="fewer examples, rounds and attackers: a first look")] = False,
    disjoint_by: DisjointOption = None,
    option: DataOptionsOption = None,
    root: RootOption = None,
    jobs: JobsOption = 2,
) -> None:
    """Find where your own network can be cut, serve and attack each cut, and say which leaks least."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with one_line_errors():
        from wireleak.lab.audit.audit import Request, numbers, words
        from wireleak.lab.audit.audit import audit as run_audit

        chosen = None if attributes is None else words(attributes)
        places = None if cuts is None else numbers(cuts)
        request = Request(model, data, task, chosen, places, tuple(option or ()), disjoint_by, seeds, quick, root)
        run_audit(request, out, jobs, console)


@app.command(epilog="Example: wireleak defend examples/audit_model.py:make --data digits --protect slant --budget 2%")
def defend(
    model: ModelArgument,
    data: SourceOption,
    budget: Annotated[str, typer.Option(help="accuracy that may be lost, 2% or 0.02")] = "2%",
    protect: Annotated[Optional[str], typer.Option(help="attribute to train against (default: the first)")] = None,  # noqa: UP045
    task: TaskOption = None,
    attributes: AttributesOption = None,
    cut: Annotated[Optional[int], typer.Option(help="where to cut (default: fewest numbers on the wire)")] = None,  # noqa: UP045
    out: OutOption = Path("runs"),
    seeds: Annotated[int, typer.Option(min=1, help="run with seeds 0 to N-1; one shows nothing")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="fewer examples, rounds and settings: a first look")] = False,
    disjoint_by: DisjointOption = None,
    option: DataOptionsOption = None,
    root: RootOption = None,
    jobs: JobsOption = 2,
) -> None:
    """Try defences on your own network and say which lowers the leak most for at most that loss of accuracy."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with one_line_errors():
        from wireleak.lab.audit.audit import Request, words
        from wireleak.lab.audit.defend import defend as run_defend
        from wireleak.lab.audit.defend import percent

        chosen = None if attributes is None else words(attributes)
        cuts = None if cut is None else (cut,)
        request = Request(model, data, task, chosen, cuts, tuple(option or ()), disjoint_by, seeds, quick, root)
        run_defend(request, protect, percent(budget), out, jobs, console)


@app.command(epilog="Example: wireleak report runs/digits-latest")
def report(run: Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder")]) -> None:
    """Make a run's report.html again from its results."""
    with one_line_errors():
        from wireleak.lab.report.page import render

        console.print(f"report: {render(run)}", soft_wrap=True)


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


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A user's mistake is one line on stderr and exit status 2; anything else is a bug and keeps its traceback."""
    from wireleak.lab.errors import expected_errors

    try:
        yield
    except expected_errors() as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted; every process was stopped", status=130)


def fail(line: str, status: int = USER_ERROR) -> NoReturn:
    """End with one line on stderr."""
    typer.echo(f"wireleak: {' '.join(line.split())}", err=True)
    raise typer.Exit(status)


def become_adversary(*argv: str) -> NoReturn:
    """Replace this process by the adversary's: another trust domain, reached by command line alone."""
    sys.stdout.flush()
    execv: Callable[[str, list[str]], NoReturn] = os.execv
    execv(sys.executable, [sys.executable, "-m", "adversary", *argv])
