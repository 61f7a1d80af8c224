"""`python -m client serve --config F`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

# A mistake is one line, and ours: gRPC's core would write a second to stderr. ("error" is what Flower sets.)
if os.environ.get("GRPC_VERBOSITY", "error").lower() == "error":
    os.environ["GRPC_VERBOSITY"] = "NONE"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def device() -> None:
    """The device's side of wireleak."""


@app.command()
def serve(config: Annotated[Path, typer.Option(help="The device's config, JSON.")]) -> None:
    """Stream a device's inputs to the head once and write the predictions.

    Example: python -m client serve --config runs/digits/device-victim/config.json
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    from client.config import DeviceConfig
    from client.link import HeadError
    from client.serve import serve as serve_inputs
    from wireleak.config import ConfigError, read_config

    try:
        device = read_config(config, DeviceConfig)
        count = serve_inputs(device)
    except (ConfigError, HeadError, OSError) as error:
        typer.echo(f"client serve: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{count} predictions in {device.predictions}")


if __name__ == "__main__":
    app()
