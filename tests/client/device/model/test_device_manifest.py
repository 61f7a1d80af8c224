"""The manifest that the lab writes and the device reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.device.model.errors import DeviceError
from client.device.model.manifest import checksum, read_manifest


def test_the_device_reads_what_the_lab_writes(export: Callable[..., Path]) -> None:
    chain = '[{"name": "quantise", "options": {"bits": 4, "clip": 3}}]'
    manifest = read_manifest(export(transforms=chain, pad=4096, scaling=(-1.0, 1.0)))
    assert (manifest.model, manifest.cut, manifest.kind, manifest.pad) == ("strided28", 2, "image", 4096)
    assert (manifest.shape, manifest.activation_shape) == ((1, 28, 28), (32, 7, 7))
    assert manifest.scaling == {"low": -1.0, "high": 1.0}
    (step,) = manifest.transforms
    assert (step.name, step.at_inference) == ("quantise", True)
    assert step.options == {"bits": 4, "clip": 3}
    assert step.guarantee is not None
    assert step.guarantee.startswith("capacity, not privacy")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda held: held | {"cut": 1}, "manifest.sha256: .* was changed after its export"),
        (lambda held: held | {"transforms": []} | {"pad": 1}, "manifest.sha256: .* was changed after its export"),
        (lambda held: held | {"format": 2}, "manifest.format: 2 where this device reads 1"),
        (lambda held: [], "manifest.format: None where this device reads 1"),
        (lambda held: signed(held | {"wire": "v2"}), "manifest.wire: protocol 'v2' where this device speaks 'v1'"),
        (lambda held: signed({k: v for k, v in held.items() if k != "classes"}), "manifest.classes: is missing"),
        (lambda held: signed(held | {"encoder": "gone.onnx"}), "manifest.encoder: cannot read .*gone.onnx"),
    ],
)
def test_a_changed_manifest_is_refused(encoder: Path, change: Callable[[Any], Any], line: str) -> None:
    path = encoder / "manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(DeviceError, match=line):
        read_manifest(encoder)


def signed(held: dict[str, Any]) -> dict[str, Any]:
    return held | {"sha256": checksum(held)}


def test_another_encoder_is_refused(encoder: Path) -> None:
    with (encoder / "encoder.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(
        DeviceError, match=r"manifest.encoder_sha256: .*encoder.onnx is not the encoder of this manifest"
    ):
        read_manifest(encoder)


def test_a_folder_without_a_manifest_and_one_that_is_no_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="give the folder that `wireleak export` wrote"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DeviceError, match="is not JSON"):
        read_manifest(tmp_path)
