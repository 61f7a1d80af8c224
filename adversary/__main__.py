"""The adversary's processes: tap links, decode captures, attack, and act as a malicious server or participant."""

# Each command imports only the modules that it needs, so that it starts fast.

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from wireleak.common import program
from wireleak.common.words import counted, told

app = program.application(__doc__)

Config = Annotated[Path, typer.Option("--config", help="The resolved config, JSON.")]


@app.command()
def relay(
    config: Annotated[
        Path | None, typer.Option("--config", help="The resolved config, JSON, with any number of links.")
    ] = None,
    listen: Annotated[str, typer.Option(help="Without --config: the host:port that clients connect to.")] = "",
    upstream: Annotated[str, typer.Option(help="Without --config: the host:port where the server listens.")] = "",
    output: Annotated[Path | None, typer.Option(help="Without --config: the pcap file to write.")] = None,
) -> None:
    """Relay clients' connections to the server, and record each link as a pcap file.

    Example: python -m adversary relay --listen 127.0.0.1:4002 --upstream 127.0.0.1:4001 --output link.pcap
    """
    from adversary.tap.sources.relay import main, main_single

    if config is not None:
        main(config)
    elif listen and upstream and output is not None:
        main_single(listen, upstream, output)
    else:
        raise typer.BadParameter("no link is named; give --config, or --listen, --upstream and --output")


@app.command()
def sniff(
    interface: Annotated[str, typer.Option(help="The network interface, such as lo or any.")],
    output: Annotated[Path, typer.Option(help="The pcap file to write; it must not exist.")],
    filter: Annotated[str, typer.Option(help="Filter in tcpdump's syntax; without it, all packets.")] = "",
) -> None:
    """Record a network interface with tcpdump until Ctrl-C.

    Example: python -m adversary sniff --interface lo --output lo.pcap --filter "tcp port 4001"
    """
    from adversary.tap.sources.sniff import main

    main(interface, output, filter)


@app.command()
def inspect(
    captures: Annotated[list[Path], typer.Argument(metavar="CAPTURE...", help="Captures; - for standard input.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say no progress on stderr.")] = False,
) -> None:
    """List the contents of captures: endpoints, calls, tensors, bytes and times.

    Example: python -m adversary inspect runs/digits/cut1/tap/serve-victim.pcap
    """
    from adversary.tap.inspect.command import main

    raise typer.Exit(main(captures, as_json, quiet))


@app.command()
def extract(
    captures: Annotated[list[Path], typer.Argument(metavar="CAPTURE...", help="Captures; - for standard input.")],
    kind: Annotated[str, typer.Option(help="Kind of tensor, such as activation or label.")],
    output: Annotated[Path, typer.Option(help="The .npz file to write; its one array has the name of the kind.")],
) -> None:
    """Write all tensors of one kind from captures as one array, one row per example.

    Example: python -m adversary extract --kind activation --output z.npz serve-victim.pcap
    """
    from adversary.tap.decode.packets.pcap import CaptureError
    from adversary.tap.inspect.extract import extract

    try:
        count = extract(kind, output, captures)
    except (ValueError, OSError, CaptureError) as error:
        typer.echo(f"extract: {told(error)}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{counted(count, 'row')} in {output}")


@app.command()
def describe() -> None:
    """Print the threat model, targets and options of every attack as JSON."""
    from adversary.attacks.harness.run import describe

    describe()


@app.command()
def options(chosen: Annotated[str, typer.Argument(help="JSON: a list of attacks, each {name, options}.")]) -> None:
    """Check the options of attacks before a run starts.

    Example: python -m adversary options '[{"name": "ladder", "options": {"model": "mlp-64"}}]'
    """
    import json

    from adversary.attacks.harness.registry import ATTACKS
    from wireleak.common.config import options_of

    try:
        for number, choice in enumerate(json.loads(chosen)):
            options_of(ATTACKS.get(choice["name"]).options, choice["options"], f"attacks[{number}].options")
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


@app.command()
def attack(config: Config) -> None:
    """Fit an attack on captures and write its guesses."""
    from adversary.attacks.harness.run import attack

    attack(config)


@app.command()
def live(config: Config) -> None:
    """Rebuild inputs from a capture while it grows, and publish them for a page, until SIGINT or SIGTERM.

    Example: python -m adversary live --config runs/serve/adversary/config.json
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    from adversary.live.config import LiveConfig
    from adversary.live.service import run
    from wireleak.common.config import ConfigError, read_config

    try:
        run(read_config(config, LiveConfig))
    except (ConfigError, ValueError, OSError) as error:
        typer.echo(f"live: {told(error)}", err=True)
        raise typer.Exit(2) from error


@app.command()
def hijack(config: Config) -> None:
    """Serve as a malicious head that trains the clients' encoders for the attacker, until SIGINT or SIGTERM.

    Example: python -m adversary hijack --config runs/hijack/hijacked-seed0/adversary/hijack/config.json
    """
    # Importing torch takes seconds: a signal must end the process cleanly during the import as well.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    from adversary.hijack.config import HijackConfig
    from adversary.hijack.service import run
    from wireleak.common.config import ConfigError, read_config

    try:
        run(read_config(config, HijackConfig))
    except (ConfigError, OSError) as error:
        typer.echo(f"hijack: {told(error)}", err=True)
        raise typer.Exit(2) from None


@app.command()
def initial(config: Config) -> None:
    """Write the first global model of a malicious server.

    Example: python -m adversary initial --config runs/imprint/imprint-seed0/adversary/initial/config.json
    """
    from adversary.initial.config import InitialConfig
    from adversary.initial.models import write
    from wireleak.common.config import ConfigError, read_config

    try:
        write(read_config(config, InitialConfig))
    except (ConfigError, ValueError, OSError) as error:
        typer.echo(f"initial: {told(error)}", err=True)
        raise typer.Exit(2) from None


@app.command()
def participant(
    chosen: Annotated[str, typer.Argument(help="JSON: one strategy, {name, options}.")],
    mode: Annotated[Literal["federated", "split"], typer.Option(help="Mode of the training.")] = "federated",
) -> None:
    """Check the strategy of a malicious participant before a run starts.

    Example: python -m adversary participant '{"name": "multi-task", "options": {"attribute": "slant", "alpha": 0.7}}'
    """
    from pydantic import ValidationError

    from adversary.participant.registry import settings
    from wireleak.common.config import ConfigError, Plugin, first_mistake

    try:
        settings(Plugin.model_validate_json(chosen), mode)
    except (ConfigError, ValidationError) as error:
        typer.echo(f"strategy.{first_mistake(error)}" if isinstance(error, ValidationError) else str(error), err=True)
        raise typer.Exit(2) from None


@app.command()
def plugins(
    kind: Annotated[str, typer.Argument(help="Kind of plug-in, such as attacks; all kinds by default.")] = "",
) -> None:
    """Print the adversary's plug-ins as JSON: name, summary, source, and the error if one cannot be loaded.

    Example: python -m adversary plugins attacks
    """
    from wireleak.common.registry import print_listing

    places = {
        "attacks": "adversary.attacks.harness.registry:ATTACKS",
        "participants": "adversary.participant.registry:PARTICIPANTS",
        "initial_models": "adversary.initial.models:INITIAL_MODELS",
    }
    print_listing(places, kind)


if __name__ == "__main__":
    sys.exit(program.start(app, "python -m adversary"))
