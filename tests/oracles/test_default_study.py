"""The default study's figures, recomputed with other people's libraries from its capture and its files."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.oracles import capture, recompute

HERE = Path(__file__).parent
CONTRACT = HERE.parents[1] / "proto" / "wireleak" / "v1" / "split_head.proto"
CELLS = [f"{variant}-seed{seed}" for variant in ("wide", "narrow") for seed in range(3)]
pytestmark = pytest.mark.timeout(900)
SLOW = pytest.mark.study
OURS = ("wireleak", "client", "server", "adversary", "benchmarks")


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The contract's messages, as protobuf's own compiler makes them."""
    return capture.compiled(CONTRACT, tmp_path_factory.mktemp("proto"))


@SLOW
def test_another_reader_finds_every_message_of_the_serving_captures(default_study: Path, messages: ModuleType) -> None:
    for cell in CELLS:
        for device, inputs in (("victim", 500), ("attacker", 4500)):
            found = tensors(default_study / cell / "tap" / f"serve-{device}.pcap.gz", messages)
            answered = np.load(default_study / cell / f"device-{device}" / "predictions.npz")["prediction"]
            assert len(found["activation"]) == inputs
            assert found["prediction"].tobytes() == answered.tobytes()
    assert capture.calls(default_study / "wide-tls-seed0" / "tap" / "serve-victim.pcap.gz") == []


@SLOW
def test_other_libraries_agree_with_every_figure(default_study: Path) -> None:
    found = list(recompute.figures(default_study))
    assert len(found) > 400
    apart = [one for one in found if one.recomputed != pytest.approx(one.reported, rel=1e-4, abs=1e-6)]
    assert apart == []


@SLOW
def test_baselines_from_the_other_readers_capture_agree(default_study: Path, messages: ModuleType) -> None:
    cell = default_study / "narrow-seed0"
    own = tensors(cell / "tap" / "serve-attacker.pcap.gz", messages)["activation"]
    seen = tensors(cell / "tap" / "serve-victim.pcap.gz", messages)["activation"]
    inputs = np.load(cell / "adversary" / "granted" / "surrogate.npz")["x"]
    truth = np.load(cell / "sealed" / "ledger.npz")["x"]
    reported = {
        one.row.split()[-1]: one.reported
        for one in recompute.figures(default_study)
        if "narrow 0 inversion input mse" in one.row
    }
    nearest = recompute.nearest_guess(own, inputs, seen)
    assert recompute.MEASURES["mse"](nearest, truth) == pytest.approx(reported["nearest"], rel=0.01)
    # Both choose the strength of their penalty, from lists of their own.
    ridge = recompute.ridge_guess(own, inputs, seen)
    assert recompute.MEASURES["mse"](ridge, truth) == pytest.approx(reported["ridge"], rel=0.02)


def test_the_oracles_import_nothing_of_ours() -> None:
    for file in HERE.glob("[!_]*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [name for name in names if name.split(".")[0] in OURS], file.name


def tensors(file: Path, messages: ModuleType) -> dict[str, np.ndarray]:
    """Return all activations and predictions of a serving capture."""
    (served,) = [call for call in capture.calls(file) if call.path.endswith("/Predict")]
    sent = [messages.PredictRequest.FromString(message).activation for message in served.requests]
    answered = [messages.PredictResponse.FromString(message).prediction for message in served.responses]
    return {
        "activation": np.concatenate([capture.tensor(one) for one in sent]),
        "prediction": np.concatenate([capture.tensor(one) for one in answered]),
    }
