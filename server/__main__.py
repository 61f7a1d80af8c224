"""Commands of the server: `python -m server head --config F`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from wireleak.common import program
from wireleak.common.words import told

# An error is one line of ours: gRPC's core would write a second one to stderr. ("error" is what Flower sets.)
if os.environ.get("GRPC_VERBOSITY", "error").lower() == "error":
    os.environ["GRPC_VERBOSITY"] = "NONE"

app = program.application(__doc__)


@app.command()
def head(config: Annotated[Path, typer.Option(help="The server's config, JSON.")]) -> None:
    """Serve the head stage until SIGINT or SIGTERM.

    Example: python -m server head --config runs/digits/server/config.json
    """
    # A signal that arrives while torch is still being imported must end the process in order, too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    from server.config import ServerConfig
    from server.head import run
    from wireleak.common.config import ConfigError, read_config

    try:
        run(read_config(config, ServerConfig))
    except (ConfigError, OSError) as error:
        typer.echo(f"server head: {told(error)}", err=True)
        raise typer.Exit(2) from error


@app.command()
def gateway(config: Annotated[Path, typer.Option(help="The gateway's config, JSON.")]) -> None:
    """Serve the web page and gRPC-web for browsers, in front of the head, until SIGINT or SIGTERM.

    Example: python -m server gateway --config runs/serve/gateway/config.json
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    from server.web.config import GatewayConfig
    from server.web.gateway import run
    from wireleak.common.config import ConfigError, read_config

    try:
        run(read_config(config, GatewayConfig))
    except (ConfigError, OSError) as error:
        typer.echo(f"server gateway: {told(error)}", err=True)
        raise typer.Exit(2) from error


@app.command()
def strategy(
    chosen: Annotated[str, typer.Argument(help="JSON: {name, options}.")],
    clients: Annotated[int, typer.Option(min=1, help="Clients in a round.")] = 2,
) -> None:
    """Check a strategy and its options before a run starts.

    Example: python -m server strategy '{"name": "krum", "options": {"malicious": 1}}' --clients 4
    """
    from pydantic import ValidationError

    from server.strategies import check
    from wireleak.common.config import ConfigError, Plugin, first_mistake

    try:
        check(Plugin.model_validate_json(chosen), clients)
    except (ConfigError, ValidationError) as error:
        typer.echo(f"strategy.{first_mistake(error)}" if isinstance(error, ValidationError) else str(error), err=True)
        raise typer.Exit(2) from None


@app.command()
def plugins(kind: Annotated[str, typer.Argument(help="One kind, such as strategies; all by default.")] = "") -> None:
    """Print the server's plug-ins as JSON: name, summary, source, and the error of one that cannot be loaded.

    Example: python -m server plugins strategies
    """
    from wireleak.common.registry import print_listing

    places = {
        "strategies": "server.strategies:STRATEGIES",
    }
    print_listing(places, kind)


if __name__ == "__main__":
    sys.exit(program.start(app, "python -m server"))
