"""`python -m adversary`: one thin command a job; each imports only what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Config = Annotated[Path, typer.Option("--config", help="The resolved JSON config.")]


@app.command()
def relay(
    config: Annotated[
        Path | None, typer.Option("--config", help="The resolved JSON config, any number of links.")
    ] = None,
    listen: Annotated[str, typer.Option(help="Without a config: where clients connect, host:port.")] = "",
    upstream: Annotated[str, typer.Option(help="Without a config: where the server listens, host:port.")] = "",
    output: Annotated[Path | None, typer.Option(help="Without a config: the pcap to write.")] = None,
) -> None:
    """Stand between clients and server, pass every byte on, and write one capture a link.

    Example: python -m adversary relay --listen 127.0.0.1:4002 --upstream 127.0.0.1:4001 --output link.pcap
    """
    from adversary.tap.relay import main, main_single

    if config is not None:
        main(config)
    elif listen and upstream and output is not None:
        main_single(listen, upstream, output)
    else:
        raise typer.BadParameter("give --config, or --listen, --upstream and --output")


@app.command()
def sniff(
    interface: Annotated[str, typer.Option(help="The interface, e.g. lo or any.")],
    output: Annotated[Path, typer.Option(help="The pcap to write; it must not exist.")],
    filter: Annotated[str, typer.Option(help="What to capture, in tcpdump's language.")] = "",
) -> None:
    """Record an interface with tcpdump until Ctrl-C.

    Example: python -m adversary sniff --interface lo --output lo.pcap --filter "tcp port 4001"
    """
    from adversary.tap.sniff import main

    main(interface, output, filter)


@app.command()
def inspect(
    captures: Annotated[list[Path], typer.Argument(metavar="CAPTURE...", help="pcap or pcapng files.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """List what captures hold: who talked, calls, kinds, tensor shapes, bytes and times.

    Example: python -m adversary inspect runs/digits/cut1/tap/serve-victim.pcap
    """
    from adversary.tap.inspect import main

    raise typer.Exit(main(captures, as_json))


@app.command()
def describe() -> None:
    """Print every attack's threat model, targets and options as JSON."""
    from adversary.attacks.run import describe

    describe()


@app.command()
def attack(config: Config) -> None:
    """Fit an attack on captures and write its guesses."""
    from adversary.attacks.run import attack

    attack(config)


if __name__ == "__main__":
    app(prog_name="python -m adversary")
