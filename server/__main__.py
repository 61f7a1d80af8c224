"""`python -m server head --config F`."""

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
def service() -> None:
    """The service's side of wireleak."""


@app.command()
def head(config: Annotated[Path, typer.Option(help="The server's config, JSON.")]) -> None:
    """Serve the head stage until SIGINT or SIGTERM.

    Example: python -m server head --config runs/digits/server/config.json
    """
    # Whoever stops the process while torch is still being imported gets an orderly end as well.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    from server.config import ServerConfig
    from server.head import run
    from wireleak.config import ConfigError, read_config

    try:
        run(read_config(config, ServerConfig))
    except (ConfigError, OSError) as error:
        typer.echo(f"server head: {error}", err=True)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    app()
