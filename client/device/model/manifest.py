"""Read and check the manifest that `wireleak export` writes next to an encoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.device.model.errors import DeviceError, one_line
from wireleak.common.wire import VERSION
from wireleak.common.wire.padding import Pad

FORMAT = 1
NAME = "manifest.json"


@dataclass(frozen=True)
class Step:
    """A transform of the activations.

    Parameters
    ----------
    name : str
    options : mapping
    at_inference : bool
        False where it only trained the encoder, so that a serving device has nothing to apply.
    guarantee : str or None
        Its guarantee about one message, in words.
    refusal : str or None
        Why it has none.
    """

    name: str
    options: Mapping[str, Any]
    at_inference: bool
    guarantee: str | None
    refusal: str | None


@dataclass(frozen=True)
class Manifest:
    """An exported encoder: its file, its inputs, and the head that it fits.

    Parameters
    ----------
    encoder : Path
        The .onnx file, whose hash was checked.
    model, cut : str, int
        The network, and the block after which the device sends.
    kind : str
        Kind of the inputs: image, window, text, characters or array.
    shape : tuple of int
        One input's shape.
    scaling : mapping
        How the kind's raw inputs become numbers.
    activation_shape : tuple of int
    classes : tuple of str
    transforms : tuple of Step
    pad : int, "powers" or None
        Bytes to which messages are padded.
    identity : str
        Checksum of the manifest, and through the encoder's hash of the encoder.
    """

    encoder: Path
    model: str
    cut: int
    kind: str
    shape: tuple[int, ...]
    scaling: Mapping[str, Any]
    activation_shape: tuple[int, ...]
    classes: tuple[str, ...]
    transforms: tuple[Step, ...]
    pad: Pad
    identity: str


def read_manifest(folder: Path) -> Manifest:
    """Read an exported encoder's manifest, and check it and the encoder's file.

    Raises
    ------
    DeviceError
        A file is missing, broken, or changed after the export.
    """
    path = folder / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DeviceError(
            f"ENCODER: cannot read {path}: {error.strerror}; give the folder that `wireleak export` wrote"
        ) from error
    except ValueError as error:
        raise DeviceError(f"ENCODER: {path} is not JSON ({one_line(error)}); export the encoder again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        have = content.get("format") if isinstance(content, dict) else None
        raise DeviceError(
            f"manifest.format: {have!r} where this device reads {FORMAT}; export with the wireleak of this device"
        )
    if content.get("sha256") != checksum(content):
        raise DeviceError(f"manifest.sha256: {path} was changed after its export; export the encoder again")
    if content.get("wire") != VERSION:
        raise DeviceError(
            f"manifest.wire: protocol {content.get('wire')!r} where this device speaks {VERSION!r}; "
            "install one version of wireleak on both"
        )
    try:
        return _manifest(folder, content)
    except KeyError as error:
        raise DeviceError(f"manifest.{error.args[0]}: is missing in {path}; export the encoder again") from error


def checksum(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest without its own checksum, from JSON with sorted keys and no spaces."""
    kept = {key: value for key, value in content.items() if key != "sha256"}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _manifest(folder: Path, content: dict[str, Any]) -> Manifest:
    encoder = folder / content["encoder"]
    try:
        digest = hashlib.sha256(encoder.read_bytes()).hexdigest()
    except OSError as error:
        raise DeviceError(f"manifest.encoder: cannot read {encoder}: {error.strerror}; export it again") from error
    if digest != content["encoder_sha256"]:
        raise DeviceError(
            f"manifest.encoder_sha256: {encoder} is not the encoder of this manifest; copy both files of one export"
        )
    taken = dict(content["input"])
    return Manifest(
        encoder=encoder,
        model=content["model"],
        cut=content["cut"],
        kind=taken.pop("kind"),
        shape=tuple(taken.pop("shape")),
        scaling=taken,
        activation_shape=tuple(content["activation_shape"]),
        classes=tuple(content["classes"]),
        transforms=tuple(Step(**step) for step in content["transforms"]),
        pad=content["pad"],
        identity=content["sha256"],
    )
