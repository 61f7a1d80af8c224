"""`wireleak export` on networks: what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from wireleak.cli import app
from wireleak.common.models import build, save_weights


@pytest.fixture
def export(tmp_path: Path, no_progress: None) -> Any:
    """Run the command for a network; (exit status, output, errors, folder)."""

    def run(model: str, *argv: str) -> tuple[int, str, str, Path]:
        done = CliRunner().invoke(app, ["export", model, "--out", str(tmp_path / "encoder"), *argv])
        return done.exit_code, done.stdout, done.stderr, tmp_path / "encoder"

    return run


IMAGES = ("--cut", "2", "--input-shape", "1,28,28", "--classes", "even,odd")


def test_an_export_holds_the_encoder_and_all_that_a_device_must_know(export: Any) -> None:
    chain = '[{"name": "noise", "options": {"clip": 4, "sigma": 8}}, {"name": "nopeek", "options": {"alpha": 0.1}}]'
    status, output, errors, folder = export("strided28", *IMAGES, "--transforms", chain, "--pad", "powers")
    assert status == 0, errors
    held = json.loads((folder / "manifest.json").read_text())
    assert (held["model"], held["cut"], held["classes"], held["pad"]) == ("strided28", 2, ["even", "odd"], "powers")
    assert held["activation_shape"] == [32, 7, 7]
    assert held["input"] == {"kind": "image", "shape": [1, 28, 28], "low": 0.0, "high": 1.0}
    noise, nopeek = held["transforms"]
    assert noise["guarantee"].startswith("local (")
    assert (noise["at_inference"], nopeek["at_inference"]) == (True, False)
    assert noise["guarantee"] in output


def test_the_exported_encoder_computes_what_torch_computes_for_any_batch(export: Any, tmp_path: Path) -> None:
    import onnxruntime
    import torch

    network = build("strided28", (1, 28, 28), 2, 9)
    save_weights(network.blocks, tmp_path / "whole.safetensors")
    *_, folder = export("strided28", *IMAGES, "--weights", str(tmp_path / "whole.safetensors"))
    session = onnxruntime.InferenceSession(str(folder / "encoder.onnx"))
    for size in (1, 7):
        x = np.random.default_rng(size).random((size, 1, 28, 28), dtype=np.float32)
        with torch.no_grad():
            want = network.split(2)[0].eval()(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(session.run(["activation"], {"input": x})[0], want, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "shape", "cut", "kind"),
    [
        ("lstm", "64", "2", "text"),
        ("tiny-transformer", "32", "3", "text"),
        ("char-lstm", "20", "2", "characters"),
        ("conv1d", "6,128", "4", "window"),
        # Groups of 39,204 numbers: as torch exports them, onnxruntime is wrong by 3e-4.
        ("post105-gn", "1,105,105", "1", "image"),
    ],
)
def test_networks_of_every_kind_can_be_exported(export: Any, model: str, shape: str, cut: str, kind: str) -> None:
    classes = "41" if model == "char-lstm" else "2"
    argv = ("--cut", cut, "--input-shape", shape, "--classes", classes, "--kind", kind)
    status, _, errors, folder = export(model, *argv)
    assert (status, errors) == (0, "")
    assert json.loads((folder / "manifest.json").read_text())["input"]["kind"] == kind


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("--input-shape", "1,28,28", "--classes", "2"), "--cut: is missing"),
        ((*IMAGES, "--cut", "9"), "cut: strided28 has no cut 9; choose 1 to 4"),
        ((*IMAGES, "--kind", "imag"), "--kind: no kind of input called 'imag'; did you mean 'image'?"),
        ((*IMAGES, "--input-shape", "1,x"), "--input-shape: '1,x' is not a list of numbers"),
        ((*IMAGES, "--weights", "/nowhere.safetensors"), "--weights: no file /nowhere.safetensors"),
        pytest.param(
            (*IMAGES, "--transforms", '[{"name": "nois"}]'),
            "no transform called 'nois'; did you mean 'noise'",
            marks=pytest.mark.study,
        ),
        pytest.param(
            (*IMAGES, "--transforms", '[{"name": "word-response", "options": {"epsilon": 1, "words": 9}}]'),
            "transforms.word-response: acts on inputs of words, but these inputs are numbers; use input-laplace or",
            marks=pytest.mark.study,
        ),
        ((*IMAGES, "--pad", "0"), "--pad: '0' is not a size"),
        ((*IMAGES, "--variant", "wide"), "--variant: only a run has variants"),
    ],
)
def test_a_mistake_is_one_line(export: Any, argv: tuple[str, ...], line: str) -> None:
    status, output, errors, folder = export("strided28", *argv)
    assert (status, output) == (2, "")
    assert line in errors
    assert errors.count("\n") == 1
    assert not folder.exists()


def test_an_encoder_whose_outputs_differ_is_refused(export: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wireleak.lab.devices.encoder.TOLERANCE", 1e-12)
    status, _, errors, folder = export("strided28", *IMAGES)
    assert (status, errors.count("\n")) == (2, 1)
    assert "onnxruntime's activations differ from torch's" in errors
    assert not folder.exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(tmp_path)])
    assert done.exit_code == 2
    assert f"RUN: {tmp_path} holds no study.toml" in done.stderr
