"""The command that serves a trained network live, for devices and for browsers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from wireleak.commands.base import OutOption, app, console, one_line_errors

RunArgument = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Argument(metavar="[RUN]", help="folder of a finished run (default: a small study on digits, run once)"),
]
VariantOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--variant",
        help="variant of the run; repeat it for a page with several cuts (default: the first that finished; of the "
        "small study, all)",
    ),
]
SeedOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--seed", min=0, help="seed of the run (default: the variant's first)"),
]
PortOption = Annotated[
    int,
    typer.Option("--port", min=1, max=65_500, help="port of the tap; each further variant and eavesdropper adds one"),
]


@app.command(epilog="Example: wireleak serve --web")
def serve(
    run: RunArgument = None,
    web: Annotated[bool, typer.Option("--web", help="serve the page for browsers, with a live eavesdropper")] = False,
    variant: VariantOption = None,
    seed: SeedOption = None,
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 lets other machines in")] = "127.0.0.1",
    port: PortOption = 8787,
    peer_calls: Annotated[
        int, typer.Option("--peer-calls", min=1, max=64, help="most calls of one connection at once")
    ] = 32,
    idle: Annotated[float, typer.Option(min=1, help="seconds without a message after which a call is ended")] = 60,
    age: Annotated[float, typer.Option(min=1, help="seconds after which any call is ended")] = 3600,
    out: OutOption = Path("runs"),
) -> None:
    """Serve a trained network behind a tap until Ctrl-C, and with --web show what an eavesdropper rebuilds."""
    with one_line_errors():
        from wireleak.lab.serve.session import Wanted, serve

        wanted = Wanted(run, _variants(run, variant), seed, web, host, port, out, (), peer_calls, idle, age)
        serve(wanted, console)


@app.command(epilog="Example: wireleak android --serial emulator-5554")
def android(
    run: RunArgument = None,
    serial: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="phone or emulator, as `adb devices` lists it (default: the only one)"),
    ] = None,
    network: Annotated[
        bool,
        typer.Option("--network", help="reach this machine over the network, so that a capture on the device sees it"),
    ] = False,
    variant: VariantOption = None,
    seed: SeedOption = None,
    port: PortOption = 8787,
    out: OutOption = Path("runs"),
) -> None:
    """Serve the web page and open it on an Android phone or emulator that adb reaches, until Ctrl-C."""
    with one_line_errors():
        from wireleak.lab.serve.android import show_on_android
        from wireleak.lab.serve.session import Wanted

        wanted = Wanted(run, _variants(run, variant), seed, True, "127.0.0.1", port, out)
        show_on_android(wanted, serial, network, console)


def _variants(run: Path | None, given: list[str] | None) -> tuple[str | None, ...]:
    from wireleak.lab.serve.source import small_variants

    if given:
        return tuple(dict.fromkeys(given))
    return small_variants() if run is None else (None,)
