"""Commands that record, inspect and attack traffic."""

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
    """Relay a TCP link and record its traffic (needs no privileges); stop with Ctrl-C."""
    become_adversary("relay", "--listen", listen, "--upstream", upstream, "--output", str(output))


@app.command(epilog="Example: wireleak sniff --interface lo --output lo.pcap --filter 'tcp port 9092'")
def sniff(
    interface: Annotated[str, typer.Option(help="network interface to record")],
    output: Annotated[Path, typer.Option(help="pcap file to write")],
    filter: Annotated[str, typer.Option(help="tcpdump filter of the packets to record")] = "tcp",
) -> None:
    """Record an interface with tcpdump (needs the right to capture packets); stop with Ctrl-C."""
    become_adversary("sniff", "--interface", interface, "--output", str(output), "--filter", filter)


@app.command(epilog="Example: wireleak inspect runs/digits-latest/wide-seed0/tap/serve-victim.pcap --json")
def inspect(
    captures: Annotated[
        list[Path],
        typer.Argument(
            metavar="CAPTURE...", help='pcap, pcapng or snoop files, also compressed; "-" reads standard input'
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Show the contents of captures: endpoints, calls, kinds of messages, tensor shapes, bytes, times."""
    become_adversary("inspect", *map(str, captures), *(["--json"] if json else []))


@app.command(epilog="Example: wireleak attack runs/digits-latest/wide-seed0/tap/serve-victim.pcap --attack inversion")
def attack(
    capture: Annotated[Path, typer.Argument(help='the victims\' capture, also compressed; "-" reads standard input')],
    attack: Annotated[
        str, typer.Option(help="name of the attack (`wireleak plugins attacks` lists all)")
    ] = "inversion",
    target: Annotated[
        str,
        typer.Option(help='target to guess: "input", "label", "member", "secret", "canary", or a private attribute'),
    ] = "input",
    device: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="capture of the attacker's own device (default: serve-attacker.pcap in the same folder)"),
    ] = None,
    surrogate: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="surrogate data: the attacker's inputs, .npz (default: the run's granted file)"),
    ] = None,
    encoder: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="weights of the encoder, for attacks that know them (default: the run's)"),
    ] = None,
    head: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="weights of the head, for attacks that know them (default: the run's)"),
    ] = None,
    model: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="JSON file of the network's config, for attacks that know it (default: the run's)"),
    ] = None,
    victims: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="number of inputs that the victims sent (default: the run's, else those captured)"),
    ] = None,
    vantage: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="vantage of an attack on federated training: link, server, participant, …"),
    ] = None,
    option: Annotated[Optional[list[str]], typer.Option(help="option of the attack as name=value; repeatable")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(min=0, help="seed of the attack's random draws")] = 0,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="folder for guesses and page (default: CAPTURE-ATTACK-TARGET in the working folder)"),
    ] = None,
) -> None:
    """Attack a recorded capture; score the guesses if the run's ground truth is there, and write a page."""
    with one_line_errors():
        from wireleak.lab.recorded.request import Request

        given = (device, surrogate, encoder, head, model, victims, vantage, option or [], seed, out)
        request = Request(capture, attack, target, *given)
        # The import below takes longer than this check.
        request.check()
        from wireleak.lab.recorded.attack import attack_capture

        status = attack_capture(request, console)
    raise typer.Exit(status)
