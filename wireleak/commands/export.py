"""Commands that prepare a device: its encoder, and certificates for its link."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from wireleak.commands.base import app, fail, one_line_errors


@app.command(epilog="Example: wireleak export runs/digits-latest --variant wide --out encoder")
def export(
    what: Annotated[
        str, typer.Argument(metavar="RUN|FILE.py:FACTORY", help="folder of a run, or function that builds your network")
    ],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="folder for the files (default: encoder/ in the run's cell, or in the current folder)"),
    ] = None,
    variant: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="variant of the run (default: the first that finished)"),
    ] = None,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=0, help="seed of the run (default: the variant's first); of your network's first weights"),
    ] = None,
    cut: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="number of the block after which the device sends, for your own network"),
    ] = None,
    input_shape: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="shape of one input without the batch, as 3,32,32, for your own network"),
    ] = None,
    classes: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="number of classes, or their names as even,odd, for your own network"),
    ] = None,
    weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help=".safetensors of your encoder or whole network (default: its first weights)"),
    ] = None,
    kind: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="kind of your inputs: image, window, text, characters or array (default: by shape)"),
    ] = None,
    scaling: Annotated[
        str, typer.Option(help="values of black and white in your images, as -1,1 (default: 0,1)")
    ] = "0,1",
    transforms: Annotated[
        str, typer.Option(help="JSON list of transforms for your network, each {name, options}")
    ] = "[]",
    pad: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help='bytes to which messages of your network are padded, or "powers"'),
    ] = None,
) -> None:
    """Write an encoder as encoder.onnx and manifest.json, for wireleak-device and for browsers."""
    with one_line_errors():
        from wireleak.lab.devices.export import Own, export_network, export_run, shown
        from wireleak.lab.devices.options import class_names, kind_named, numbers, padding
        from wireleak.lab.launch.watch import working_on

        own = {"--cut": cut, "--input-shape": input_shape, "--classes": classes, "--weights": weights, "--kind": kind}
        if Path(what).is_dir():
            if extra := [option for option, value in own.items() if value is not None]:
                fail(f"{extra[0]}: a run has its own; leave it out")
            with working_on("exporting the encoder"):
                exported = export_run(Path(what), variant, seed, out)
        else:
            if ":" not in what and (cut, input_shape, classes) == (None, None, None):
                fail(f"RUN: no folder {what}; name a run's folder, or FILE.py:FACTORY with --cut and --input-shape")
            if variant is not None:
                fail("--variant: only a run has variants; leave it out")
            low, high = numbers("--scaling", scaling, float, 2)
            network = Own(
                what,
                cut,
                numbers("--input-shape", input_shape or "", int),
                class_names(classes or ""),
                weights,
                kind_named(kind),
                (low, high),
                transforms,
                padding(pad),
                seed or 0,
            )
            with working_on("exporting the encoder"):
                exported = export_network(network, out or Path("encoder"))
        typer.echo(shown(exported))


@app.command(epilog="Example: wireleak certificates --host 192.168.1.10 --device pi --out certificates")
def certificates(
    host: Annotated[list[str], typer.Option(help="name or address under which devices reach the head; repeatable")],
    device: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="name of a device that gets a certificate, for mutual TLS; repeatable"),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="days for which the certificates are valid")] = 365,
    out: Annotated[Path, typer.Option(help="folder for the PEM files")] = Path("certificates"),
) -> None:
    """Make an authority, and certificates of a head and of devices, for TLS between machines."""
    with one_line_errors():
        from wireleak.lab.devices.identities import make_identities

        for line in make_identities(out, host, device or [], days):
            typer.echo(line)
