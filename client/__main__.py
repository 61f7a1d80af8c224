"""`python -m client serve --config F`."""

from __future__ import annotations

import json
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
    from wireleak.common.config import ConfigError, read_config

    try:
        device = read_config(config, DeviceConfig)
        count = serve_inputs(device)
    except (ConfigError, HeadError, OSError) as error:
        typer.echo(f"client serve: {error}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{count} predictions in {device.predictions}")


@app.command()
def transforms(
    chain: Annotated[str, typer.Argument(help="JSON: a list of {name, options}.")],
    messages: Annotated[int, typer.Option(min=1, help="How many messages of one input's owner cross the wire.")] = 1,
    mode: Annotated[str, typer.Option(help="How the device trains: split or federated.")] = "split",
    private: Annotated[bool, typer.Option(help="Whether it trains by DP-SGD.")] = False,
) -> None:
    """Check what a device would do to its activations, and print as JSON what each step guarantees.

    Example: python -m client transforms '[{"name": "noise", "options": {"clip": 4, "sigma": 8}}]'
    """
    from pydantic import TypeAdapter, ValidationError

    from client.transforms.registry import guarantees, make
    from wireleak.common.config import ConfigError, Plugin, first_mistake

    try:
        steps = [make(step, seed=0) for step in TypeAdapter(list[Plugin]).validate_json(chain)]
        for step in steps:
            if step.trains and mode != "split":
                raise ConfigError(f'transforms.{step.name}: trains the encoder against the head; set mode = "split"')
        if private:
            from client.transforms.soundness import check_private

            check_private(steps)
        told = [
            {
                "name": step.name,
                "guarantee": guarantee,
                "refusal": step.refusal(),
                "private": step.private(),
                **step.changes._asdict(),
            }
            for step, guarantee in zip(steps, guarantees(steps, messages), strict=True)
        ]
    except ValidationError as error:
        typer.echo(f"transforms: {first_mistake(error)}", err=True)
        raise typer.Exit(2) from None
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(json.dumps(told))


@app.command()
def mods(chain: Annotated[str, typer.Argument(help="JSON: a list of {name, options}.")]) -> None:
    """Check what a client would do to its update before it is sent.

    Example: python -m client mods '[{"name": "fixed-clipping"}]'
    """
    from pydantic import TypeAdapter, ValidationError

    from client.mods import make
    from wireleak.common.config import ConfigError, Plugin, first_mistake

    try:
        for mod in TypeAdapter(list[Plugin]).validate_json(chain):
            make(mod)
    except (ConfigError, ValidationError) as error:
        typer.echo(f"mods.{first_mistake(error)}" if isinstance(error, ValidationError) else str(error), err=True)
        raise typer.Exit(2) from None


@app.command()
def plugins(kind: Annotated[str, typer.Argument(help="One kind, such as transforms; all by default.")] = "") -> None:
    """Print the client's plug-ins as JSON: name, summary, source, and the error of one that cannot be loaded.

    Example: python -m client plugins transforms
    """
    from wireleak.common.registry import print_listing

    places = {
        "transforms": "client.transforms.registry:TRANSFORMS",
        "mods": "client.mods:MODS",
    }
    print_listing(places, kind)


if __name__ == "__main__":
    app()
