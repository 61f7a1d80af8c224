"""The thin device against a real head: predictions, mistakes, and the packages that it may import."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.head import RunningHead

# Fails every import of a package that a small device lacks, then runs the device.
BLOCKED = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages}:
            raise ModuleNotFoundError(f"{{name}} is absent", name=name)
sys.meta_path.insert(0, Absent())
from client.device.__main__ import main
"""
PACKAGES = (
    "torch", "flwr", "pydantic", "typer", "scipy", "safetensors", "onnx", "rich", "click", "PIL", "cryptography",
    "sklearn", "matplotlib", "pandas", "psutil",
)  # fmt: skip


def answers(output: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    *rows, last = [json.loads(line) for line in output.splitlines()]
    return rows, last["totals"]


def test_predictions_equal_torch_s(
    device: Any, encoder: Path, head: RunningHead, pictures: Path, expected: np.ndarray
) -> None:
    status, output, _ = device(encoder, "--head", f"127.0.0.1:{head.port}", "--input", pictures, "--batch", 3, "--json")
    rows, totals = answers(output)
    assert status == 0
    assert [row["input"] for row in rows] == list(range(20))
    np.testing.assert_allclose([row["prediction"] for row in rows], expected, atol=1e-5)
    assert [row["class"] for row in rows] == ["abc"[best] for best in expected.argmax(1)]
    assert (totals["inputs"], totals["messages"]) == (20, 7)
    assert totals["sent_bytes"] > 20 * 32 * 7 * 7 * 4


def test_it_runs_where_no_other_package_is_installed(encoder: Path, head: RunningHead, pictures: Path) -> None:
    code = BLOCKED.format(packages=PACKAGES) + "main()"
    argv = [encoder, "--head", f"127.0.0.1:{head.port}", "--input", pictures]
    done = subprocess.run([sys.executable, "-c", code, *map(str, argv)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 20
    refused = subprocess.run(
        [sys.executable, "-c", code + "; import torch"], capture_output=True, text=True, timeout=60
    )
    assert refused.returncode != 0


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"cut": 1}, "cut: the head serves cut 2 of strided28; this device asked for cut 1"),
        ({"classes": ("a", "b")}, "classes: the head has 3, this encoder needs 2"),
        ({"model": "strided32", "input_shape": (1, 32, 32)}, "model: the head serves cut 2 of strided28"),
    ],
)
def test_an_encoder_of_another_head_is_refused(
    device: Any, export: Callable[..., Path], head: RunningHead, tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    folder = export("other", **changes)
    np.save(tmp_path / "x.npy", np.zeros(json.loads((folder / "manifest.json").read_text())["input"]["shape"]))
    status, output, errors = device(
        folder, "--head", f"127.0.0.1:{head.port}", "--input", tmp_path / "x.npy", "--patience", 0
    )
    assert (status, output) == (2, "")
    assert line in errors
    assert errors.count("\n") == 1
