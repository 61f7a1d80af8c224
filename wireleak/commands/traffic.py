"""Commands that record traffic, look into it and attack it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from wireleak.commands.base import app, become_adversary, console, one_line_errors


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
    seed: Annotated[int, typer.Option(min=0, help="seed of the attack's random draws")] = 0,
    out: Annotated[Optional[Path], typer.Option(help="where guesses go (default: beside the run's attacks)")] = None,  # noqa: UP045
) -> None:
    """Attack a recorded capture, today or years later; scored where the run's ground truth is at hand."""
    with one_line_errors():
        from wireleak.lab.steps.again import Given, attack_again

        given = Given(device, surrogate, encoder, head, model, victims, option or [], vantage)
        attack_again(capture, attack, target, given, seed, out, console)
