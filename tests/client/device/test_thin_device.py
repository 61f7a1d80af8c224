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
from wireleak.lab.launch.certificates import Authority

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


def test_messages_are_padded_as_the_manifest_says(
    device: Any, export: Callable[..., Path], head: RunningHead, pictures: Path
) -> None:
    status, output, _ = device(
        export(pad="powers"), "--head", f"127.0.0.1:{head.port}", "--input", pictures, "--json", "--count", 3
    )
    assert status == 0
    assert answers(output)[1]["sent_bytes"] == 3 * 8192


def test_a_person_reads_names_classes_and_rates(device: Any, encoder: Path, head: RunningHead, pictures: Path) -> None:
    _, output, errors = device(encoder, "--head", f"127.0.0.1:{head.port}", "--input", pictures, "--count", 2)
    number, name, chosen, share = output.splitlines()[1].split("\t")
    assert (number, name) == ("1", f"{pictures}[1]")
    assert chosen in "abc"
    assert 0 < float(share) < 1
    assert "inputs: 2; messages: 2; sent: 12.6 kB" in errors


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ([], "--head: is missing; give the head's host:port"),
        (["--head", "nowhere"], "--head: 'nowhere' is not an address; give host:port"),
        (["--head", "h:1"], "--input: is missing; name files, a folder, or - for standard input"),
        (["--head", "h:1", "--input", "/nowhere"], "--input: no file or folder /nowhere"),
        (["--head", "h:1", "--input", "-", "--batch", "0"], "--batch: 0 is too small; give 1 or more"),
        (["--head", "h:1", "--input", "-", "--count", "0"], "--count: 0 is too small"),
        (["--head", "h:1", "--input", "-", "--every", "0"], "--every: 0 is no time between frames"),
        (["--head", "h:1", "--input", "-", "--seed", "-1"], "--seed: -1 is negative"),
        (["--head", "h:1", "--input", "-", "--camera", "pi"], "--camera: is given, and --input too"),
        (["--head", "h:1", "--input", "-", "--key", "/k"], "--certificate, --key: security: certificate and key go"),
        (["--head", "h:1", "--input", "-", "--ca", "/nowhere"], "--ca, --certificate, --key: /nowhere: No such file"),
        (["--colour"], "unrecognized arguments: --colour; see wireleak-device --help"),
    ],
)
def test_a_mistake_is_one_line(device: Any, encoder: Path, argv: list[str], line: str) -> None:
    status, output, errors = device(encoder, *argv)
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"wireleak-device: {line}")


def test_inputs_before_a_bad_one_are_answered(
    device: Any, encoder: Path, head: RunningHead, pictures: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "wrong.npy", np.zeros((3, 32, 32)))
    status, output, errors = device(
        encoder, "--head", f"127.0.0.1:{head.port}", "--input", pictures, tmp_path / "wrong.npy"
    )
    assert (status, len(output.splitlines())) == (2, 20)
    assert "wrong.npy holds shape [3, 32, 32], the encoder takes [1, 28, 28]" in errors


def test_a_batch_over_the_head_s_limit_is_refused(
    device: Any, encoder: Path, start_head: Callable[..., RunningHead], pictures: Path
) -> None:
    where = f"127.0.0.1:{start_head(max_batch=4).port}"
    status, _, errors = device(encoder, "--head", where, "--input", pictures, "--batch", 5)
    assert (status, errors) == (2, "wireleak-device: --batch: 5 is over the head's limit; give 4 or less\n")


@pytest.mark.parametrize("mutual", [False, True])
def test_the_link_is_tls_or_mutual_tls(
    device: Any, encoder: Path, start_head: Callable[..., RunningHead], pictures: Path, tmp_path: Path, mutual: bool
) -> None:
    authority = Authority(tmp_path / "pem")
    server, own = authority.server(), authority.client("pi")
    security = {"certificate": str(server.certificate), "key": str(server.key)}
    head = start_head(security=security | ({"ca": str(server.ca)} if mutual else {}))
    shared = (encoder, "--head", f"127.0.0.1:{head.port}", "--input", pictures, "--patience", 0)
    shown = ("--certificate", own.certificate, "--key", own.key) if mutual else ()
    status, output, errors = device(*shared, "--ca", server.ca, *shown)
    assert (status, len(output.splitlines())) == (0, 20), errors
    for wrong in [(), ("--ca", server.ca)] if mutual else [()]:
        status, output, errors = device(*shared, *wrong)
        assert (status, output) == (1, "")
        assert f"head at 127.0.0.1:{head.port} is away: UNAVAILABLE" in errors


def test_a_record_that_cannot_be_written_is_one_line(
    device: Any, encoder: Path, head: RunningHead, pictures: Path
) -> None:
    status, output, errors = device(
        encoder, "--head", f"127.0.0.1:{head.port}", "--input", pictures, "--record", "/nowhere/sent.npz"
    )
    assert (status, len(output.splitlines())) == (2, 20)
    assert "--record: cannot write /nowhere/sent.npz: No such file or directory" in errors


@pytest.mark.study
def test_the_benchmark_prints_size_start_memory_and_time_beside_torch_s(
    device: Any, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "client.py").write_text("raise SystemExit('a file of the working folder ran')")
    monkeypatch.chdir(tmp_path)
    status, output, _ = device(encoder, "--benchmark", "--batch", 4, "--json")
    ours, torch_s = json.loads(output)
    assert status == 0
    assert (ours["runtime"], torch_s["runtime"], ours["batch"]) == ("onnxruntime", "torch", 4)
    for field in ("installed_bytes", "start_seconds", "peak_bytes"):
        assert 0 < ours[field] < torch_s[field]
    assert 0 < ours["batch_seconds"] < 1


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
