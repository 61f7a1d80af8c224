"""A real run with hostile ClientApps: each is left out and named, and the server averages the honest updates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.server.test_flower_run import client_config
from wireleak.lab.launch.bundle import write_app
from wireleak.lab.launch.federation import Federation, Node
from wireleak.lab.launch.processes import Launcher, LaunchError

# Its node's config names the fault.
HOSTILE = '''
from io import BytesIO
import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord
from flwr.clientapp import ClientApp
from client.app import app as honest

app = ClientApp()


def npz(content):
    file = BytesIO()
    np.savez(file, np.zeros(3))
    array = next(iter(content.array_records["arrays"].values()))
    array.data = file.getvalue()


def large(content):
    name, array = next(iter(content.array_records["arrays"].items()))
    array.data = array.data + np.random.default_rng(0).bytes(64 << 20)


def repeated(content):
    """One chunk of 5 MiB, named ten thousand times: 50 GB once it is rebuilt."""
    array = next(iter(content.array_records["arrays"].values()))
    array.data = b"x" * (5 << 20)
    chunks = array.slice_array()
    array.__dict__["_chunks"] = chunks * 10_000


FAULTS = {
    "npz": npz,
    "large": large,
    "repeated": repeated,
    "examples": lambda content: content.metric_records["metrics"].update({"num-examples": 1 << 62}),
    "metrics": lambda content: content.metric_records["metrics"].update({f"own/{n}": 1.0 for n in range(100_000)}),
    "records": lambda content: content.update({"more": MetricRecord({"num-examples": 5})}),
}


@app.train()
def train(message, context):
    reply = honest(message, context)
    FAULTS.get(context.node_config["fault"], lambda content: None)(reply.content)
    return reply


@app.evaluate()
def evaluate(message, context):
    return honest(message, context)
'''
REASONS = {
    "npz": "no array in NumPy's format .npy",
    "large": "it is larger than",
    "repeated": "it cannot be read: its arrays are larger than",
    "examples": "metric num-examples is 4611686018427387904, but the client registered 96",
    "metrics": "holds 100002 metrics where at most 64 are expected",
    "records": "holds no single record of metrics called 'metrics'",
}


def hostile_app(folder: Path) -> Path:
    app = write_app(folder)
    (app / "hostile.py").write_text(HOSTILE)
    project = app / "pyproject.toml"
    written = project.read_text().replace('"client.app:app"', '"hostile:app"')
    project.write_text(written.replace('"client/**/*.py"', '"hostile.py", "client/**/*.py"'))
    return app


def run(folder: Path, settings: dict[str, Any], faults: list[str]) -> dict[int, str]:
    """Train one round with a client of each fault; return the nodes' faults."""
    changes = {"registered": [{"train": 96, "evaluation": 32}] * len(faults), "clients": len(faults)}
    config = folder / "server.json"
    config.write_text(json.dumps(settings | changes))
    nodes = []
    for number, fault in enumerate(faults):
        own = client_config(folder, settings, number, "127.0.0.1:1")
        nodes.append(Node(f"client-{number}", {"config": str(own), "fault": fault}))
    with Launcher() as launcher:
        federation = Federation(launcher, folder / "run", nodes, app=hostile_app(folder / "app"))
        with federation:
            federation.start_superlink()
            federation.start_nodes()
            idents = [federation.node_id(node.name) for node in nodes]
            order = {"config": str(config), "nodes": ",".join(idents)}
            federation.run_app(order, timeout=120, progress=Path(settings["history"]))
    return {int(ident): fault for ident, fault in zip(idents, faults, strict=True)}


@pytest.fixture
def federated(settings: dict[str, Any]) -> dict[str, Any]:
    settings["model"]["classes"] = 2
    settings["plan"] |= {"mode": "federated", "rounds": 1, "timeout": 120}
    return settings


@pytest.mark.study
@pytest.mark.timeout(400)
def test_hostile_clients_are_left_out_and_named(tmp_path: Path, federated: dict[str, Any]) -> None:
    received = tmp_path / "received"
    faults = ["", "", *REASONS]
    idents = run(tmp_path, federated | {"record": str(received)}, faults)
    (entry,) = json.loads(Path(federated["history"]).read_text())["rounds"]
    honest = sorted(ident for ident, fault in idents.items() if not fault)
    assert entry["trained"] == honest
    assert len(entry["evaluated"]) == len(faults)
    dropped = {idents[each["client"]]: each["reason"] for each in entry["dropped"]}
    assert set(dropped) == set(REASONS)
    assert not [fault for fault, reason in dropped.items() if REASONS[fault] not in reason], dropped
    log = "".join(path.read_text() for path in (tmp_path / "run" / "logs").glob("*.log"))
    assert all(f"client {ident} dropped: {dropped[fault]}" in log for ident, fault in idents.items() if fault)

    updates = [load_file(received / str(ident) / "round-1-end.safetensors") for ident in honest]
    stages = [load_file(Path(federated["checkpoints"]) / f"{stage}-1.safetensors") for stage in ("encoder", "head")]
    for name, value in (stages[0] | stages[1]).items():
        np.testing.assert_allclose(value, (updates[0][name] + updates[1][name]) / 2, rtol=1e-5, atol=1e-7)


@pytest.mark.study
@pytest.mark.timeout(200)
def test_a_run_without_an_honest_client_ends_with_one_line(tmp_path: Path, federated: dict[str, Any]) -> None:
    with pytest.raises(LaunchError, match=r"round 1: no client sent a usable update; client .*registered 96") as caught:
        run(tmp_path, federated, ["examples"])
    assert "\n" not in str(caught.value)
