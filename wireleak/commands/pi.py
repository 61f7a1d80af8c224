"""The command that compares this machine's device with an emulated Raspberry Pi."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from wireleak.commands.base import OutOption, app, console, one_line_errors


@app.command(epilog="Example: wireleak pi --board pi4 --link wifi")
def pi(
    board: Annotated[
        Literal["pi3", "pi4"], typer.Option(help="Raspberry Pi whose CPU is emulated: Cortex-A53 or Cortex-A72")
    ] = "pi3",
    link: Annotated[
        Literal["ethernet", "wifi"],
        typer.Option(help="wifi: the Pi delays its packets by 20 ms, limits 20 Mbit/s, and loses 1 %"),
    ] = "ethernet",
    memory: Annotated[int, typer.Option(min=256, max=8192, help="the Pi's memory in MiB")] = 512,
    seeds: Annotated[int, typer.Option(min=1, help="run with seeds 0 to N-1")] = 1,
    out: OutOption = Path("runs"),
) -> None:
    """Run the study `devices`: an emulated Raspberry Pi serves, its wire is recorded, and the capture is attacked."""
    with one_line_errors():
        from wireleak.lab.steps.pi import run_on_pi

        run_on_pi(board, link, memory, seeds, out, console)
