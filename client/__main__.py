"""`python -m client`: serve a device, and check transforms, mods and plug-ins."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from wireleak.common import program
from wireleak.common.words import counted, told

# An error is one line of our own: gRPC's core would write a second line to stderr. ("error" is Flower's setting.)
if os.environ.get("GRPC_VERBOSITY", "error").lower() == "error":
    os.environ["GRPC_VERBOSITY"] = "NONE"

app = program.application(__doc__)


@app.command()
def serve(config: Annotated[Path, typer.Option(help="The device's resolved config, JSON.")]) -> None:
    """Stream a device's inputs to the head once, and write the predictions.

    Example: python -m client serve --config runs/digits/device-victim/config.json
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    from client.config import DeviceConfig
    from client.serve import serve as serve_inputs
    from wireleak.common.config import ConfigError, read_config
    from wireleak.common.head.link import HeadError

    try:
        device = read_config(config, DeviceConfig)
        count = serve_inputs(device)
    except (ConfigError, HeadError, OSError) as error:
        typer.echo(f"client serve: {told(error)}", err=True)
        raise typer.Exit(2) from error
    typer.echo(f"{counted(count, 'prediction')} in {device.predictions}")


@app.command()
def transforms(
    chain: Annotated[str, typer.Argument(help="JSON: a list of transforms, each {name, options}.")],
    messages: Annotated[int, typer.Option(min=1, help="Number of messages about one input that cross the wire.")] = 1,
    inputs: Annotated[
        Literal["numbers", "words"] | None, typer.Option(help="Kind of the device's inputs; by default any.")
    ] = None,
    mode: Annotated[str, typer.Option(help="Training mode of the device: split or federated.")] = "split",
    private: Annotated[bool, typer.Option(help="Whether the device trains with DP-SGD.")] = False,
) -> None:
    """Check a device's transforms of inputs and activations, and print the guarantee of each as JSON.

    Example: python -m client transforms '[{"name": "noise", "options": {"clip": 4, "sigma": 8}}]'
    """
    from pydantic import TypeAdapter, ValidationError

    from client.transforms.registry import guarantees, make_all
    from wireleak.common.config import ConfigError, Plugin, first_mistake

    try:
        steps = make_all(TypeAdapter(list[Plugin]).validate_json(chain), 0, inputs)
        for step in steps:
            if step.trains and mode != "split":
                raise ConfigError(f'transforms.{step.name}: trains the encoder against the head; set mode = "split"')
        if private:
            from client.transforms.soundness import check_private

            check_private(steps)
        rows = [
            {
                "name": step.name,
                "guarantee": guarantee,
                "refusal": step.refusal(),
                "private": step.private(),
                "at_inference": step.at_inference,
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
    typer.echo(json.dumps(rows))


@app.command()
def timing(
    encoder: Annotated[Path, typer.Argument(help="Folder that `wireleak export` wrote.")],
    batch: Annotated[int, typer.Argument(min=1, help="Inputs in a batch.")] = 1,
    threads: Annotated[int, typer.Argument(min=1, help="Threads of torch.")] = 1,
) -> None:
    """Time an exported encoder's network in torch and print JSON, for `wireleak-device --benchmark`.

    Example: python -m client timing encoder 64 1
    """
    from client.timing import timing as measure
    from wireleak.common.config import ConfigError

    try:
        typer.echo(json.dumps(measure(encoder, batch, threads)))
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None


@app.command()
def mods(chain: Annotated[str, typer.Argument(help="JSON: a list of mods, each {name, options}.")]) -> None:
    """Check the mods that change a client's update before it is sent.

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
def plugins(
    kind: Annotated[str, typer.Argument(help="Kind of plug-in, such as transforms; all kinds by default.")] = "",
) -> None:
    """Print the client's plug-ins as JSON: name, summary, source, and the error if one cannot be loaded.

    Example: python -m client plugins transforms
    """
    from wireleak.common.registry import print_listing

    places = {
        "transforms": "client.transforms.registry:TRANSFORMS",
        "mods": "client.mods:MODS",
    }
    print_listing(places, kind)


if __name__ == "__main__":
    sys.exit(program.start(app, "python -m client"))
