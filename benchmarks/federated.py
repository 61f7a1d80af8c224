"""CPU time of a federated message over real Flower processes, as a ratio to in-process FedAvg of the same training.

Each deployment has a SuperLink, a SuperNode and a ClientApp for each client, and a tap on every link, as a study has.
The network has 20 tensors. CPU time is that of all processes between two rounds, so the start does not count.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from wireleak.common.models import ModelConfig
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import TrainingPlan
from wireleak.lab.launch.federation import Federation, Node
from wireleak.lab.launch.processes import Launcher

CLIENTS, ROUNDS, WARM = 4, 12, 2
EXAMPLES = 384  # 12 steps
MODEL: dict[str, Any] = {"name": "conv1d", "input_shape": [6, 128], "classes": 6, "cut": 1}
PLAN: dict[str, Any] = {
    "mode": "federated", "rounds": ROUNDS, "epochs": 1, "batch": 32, "learning_rate": 0.1, "optimiser": "sgd",
    "evaluate_every": 1000, "timeout": 300,
}  # fmt: skip


class Deployment:
    """A federation in `folder`, with a tap on every link."""

    def __init__(self, launcher: Launcher, folder: Path, plan: dict[str, Any], clients: int) -> None:
        self.launcher = launcher
        self.folder = folder
        self.plan = PLAN | plan
        self.names = [f"client-{number}" for number in range(clients)]
        self.history = folder / "history.json"

    def run(self, warm: int = WARM) -> dict[str, float]:
        """Train, and return CPU seconds by process after the first `warm` rounds."""
        server = self._configs()
        nodes = [Node(name, {"config": str(self.folder / f"{name}.json")}) for name in self.names]
        with Federation(self.launcher, self.folder, nodes, poll=0.5) as federation:
            tap, links = self._tap(federation.start_superlink())
            federation.start_nodes(links)
            with sampled(self, warm) as spent:
                federation.run_app({"config": str(server)}, 3600)
        self.launcher.stop([tap])
        return spent

    def done(self) -> int:
        """Return the number of finished rounds."""
        return len(json.loads(self.history.read_text())["rounds"]) if self.history.exists() else 0

    def _configs(self) -> Path:
        common = {"model": MODEL, "plan": self.plan}
        for number, name in enumerate(self.names):
            path = self.folder / f"{name}.npz"
            inputs, labels = shard(number)
            np.savez(path, x=inputs, y=labels)
            own = {"train": str(path), "evaluation": str(path), "seed": number}
            (self.folder / f"{name}.json").write_text(json.dumps(common | own))
        paths = {key: str(self.folder / key) for key in ("ready", "checkpoints")} | {"history": str(self.history)}
        config = self.folder / "server.json"
        config.write_text(json.dumps(common | paths | {"clients": len(self.names)}))
        return config

    def _tap(self, fleet: str) -> tuple[Any, dict[str, str]]:
        ready, config = self.folder / "tap.ready", self.folder / "tap.json"
        links = [
            {"name": name, "listen": "127.0.0.1:0", "upstream": fleet, "capture": str(self.folder / f"{name}.pcap")}
            for name in self.names
        ]
        config.write_text(json.dumps({"links": links, "ready": str(ready)}))
        argv = ["-m", "adversary", "relay", "--config", str(config)]
        tap = self.launcher.start("tap", argv, self.folder / "logs" / "tap.log", lasting=True)
        addresses: dict[str, str] = self.launcher.wait_ready(tap, ready)["links"]
        return tap, addresses


@contextmanager
def sampled(deployment: Deployment, warm: int) -> Iterator[dict[str, float]]:
    """Add up the CPU seconds of each process from the end of round `warm` to the end of the last round."""
    spent: dict[str, float] = {}
    rounds = int(deployment.plan["rounds"])

    def watch() -> None:
        before: dict[str, float] = {}
        for wanted in (warm, rounds):
            while deployment.done() < wanted:
                time.sleep(0.02)
            now = cpu_seconds(deployment.launcher)
            spent.update({name: seconds - before.get(name, 0.0) for name, seconds in now.items()})
            before = now

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield spent
    thread.join(10)


def cpu_seconds(launcher: Launcher) -> dict[str, float]:
    """Return the CPU seconds so far of each process of the launcher's, with those of its children."""
    total: dict[str, float] = {}
    for process in launcher.processes:
        if process.poll() is None:
            own = psutil.Process(process.pid)
            times = [each.cpu_times() for each in [own, *own.children(recursive=True)]]
            total[process.name] = sum(t.user + t.system + t.children_user + t.children_system for t in times)
    return total


def shard(number: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return a client's examples."""
    draw = np.random.default_rng(number)
    return draw.random((EXAMPLES, *MODEL["input_shape"]), np.float32), draw.integers(0, MODEL["classes"], EXAMPLES)


def in_process(rounds: int = ROUNDS) -> float:
    """Return the CPU seconds a message of FedAvg of the same training in this process."""
    torch.set_num_threads(1)
    plan = TrainingPlan.model_validate(PLAN)
    network = ModelConfig.model_validate(MODEL).network().blocks
    shards = [shard(number) for number in range(CLIENTS)]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    began = time.process_time()
    for server_round in range(1, rounds + 1):
        total = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in state.items()}
        for number, (inputs, labels) in enumerate(shards):
            network.load_state_dict(state)
            train_whole(network, inputs, labels, Training(plan, (number, server_round)))
            for name, value in network.state_dict().items():
                total[name] += value.double() / CLIENTS
        state = {name: value.to(state[name].dtype) for name, value in total.items()}
    return (time.process_time() - began) / (rounds * CLIENTS)


def run() -> list[dict[str, Any]]:
    """Measure, and return one row per ratio."""
    in_process()  # torch's first steps take twice as long
    alone = in_process()
    rows = []
    with Launcher() as launcher:
        for pack in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                spent = Deployment(launcher, Path(folder), {"pack": pack}, CLIENTS).run()
            seconds = sum(spent.values()) / ((ROUNDS - WARM) * CLIENTS)
            form, target = ("packed", f"<= {0.2 / alone:.1f} (0.20 CPU s)") if pack else ("unpacked", "-")
            name, unit = f"a message, {form} / in-process", f"{seconds:.3f} CPU s of {alone:.3f}"
            rows.append({"name": name, "ratio": seconds / alone, "target": target, "unit": unit})
    return rows
