"""The SuperNode of an emulated Pi, here as a process of this machine, in a federation with an ordinary node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.wireleak.lab.launch.tiny_app import write_tiny
from wireleak.lab.launch.federation import Federation, Node, free_ports
from wireleak.lab.launch.processes import Launcher, Process

pytest.importorskip("flwr")

CLIENT = """
import sys
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
app = ClientApp()

@app.train()
def train(message, context):
    own = float(str(context.node_config["own"]))
    values = [value + own for value in message.content["arrays"].to_numpy_ndarrays()]
    content = {"arrays": ArrayRecord(values), "metrics": MetricRecord({"num-examples": 1})}
    return Message(RecordDict(content), reply_to=message)
"""


@pytest.mark.study
def test_a_node_that_is_started_elsewhere_takes_part_beside_an_ordinary_one(tmp_path: Path) -> None:
    app = write_tiny(tmp_path / "app", CLIENT)
    events = tmp_path / "events"
    with Launcher() as launcher:

        def start(superlink: str) -> Process:
            (port,) = free_ports(1)
            config = {
                "superlink": superlink,
                "runtime": f"127.0.0.1:{port}",
                "node": "own=5.0",
                "root_certificates": None,
                "poll": 0.2,
                "home": str(tmp_path / "home"),
                "events": str(events),
            }
            path = tmp_path / "node.json"
            path.write_text(json.dumps(config))
            argv = ["-m", "wireleak.lab.devices.pi.node", str(path)]
            return launcher.start("other", argv, tmp_path / "other.log", essential=False)

        nodes = [Node("own", {"own": 1.0}), Node("other", {}, start=start)]
        with Federation(launcher, tmp_path / "run", nodes, app=app) as federation:
            federation.start_superlink()
            federation.start_nodes()
            federation.run_app({"out": str(tmp_path / "answer"), "rounds": 2}, timeout=120)
            assert federation.node_id("other") != federation.node_id("own")
    assert json.loads((tmp_path / "answer").read_text()) == [6.0, 6.0, 6.0]
    ended = [json.loads(line) for line in events.read_text().splitlines() if line.startswith('{"name"')]
    assert [event["status"] for event in ended] == [0, 0]
