"""Both modes for real: a SuperLink and SuperNodes that somebody else started, driven by plain `flwr run`."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

REPOSITORY = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Deployment:
    """Processes of one SuperLink, each in its own group so that all of it can be ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = os.environ | {
            "FLWR_HOME": str(folder / "flwr"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "OMP_NUM_THREADS": "1",
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",  # the SuperLink starts flower-superexec by name
        }
        self.link, self.fleet = free_ports(2)
        (folder / "flwr").mkdir()
        (folder / "flwr" / "config.toml").write_text(
            f'[superlink.here]\naddress = "127.0.0.1:{self.link}"\ninsecure = true\n'
        )

    def start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                cwd=REPOSITORY,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def superlink(self) -> None:
        self.start(
            "superlink", "flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(self.link),
            "--fleet-api-address", f"127.0.0.1:{self.fleet}", "--disable-runtime-dependency-installation",
        )  # fmt: skip
        wait_until(lambda: answers(self.fleet) and answers(self.link), "the SuperLink")

    def supernode(self, name: str, config: Path) -> None:
        self.start(
            name, "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{self.fleet}", "--host", "127.0.0.1",
            "--port", str(free_ports(1)[0]), "--node-config", f'config="{config}"',
        )  # fmt: skip

    def flwr(self, *arguments: str) -> str:
        done = subprocess.run(
            [BIN / "flwr", *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, config: Path) -> None:
        self.flwr("run", ".", "here", "--run-config", f'config="{config}"')

    def log(self) -> str:
        return "\n".join(path.read_text() for path in self.folder.glob("*.log"))

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
        end = time.monotonic() + 5
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, end - time.monotonic()))
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until(done: Callable[[], Any], what: str, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.1)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    running = Deployment(tmp_path)
    try:
        yield running
    finally:
        running.stop()


def shard(path: Path, count: int, seed: int) -> None:
    """Examples that a network learns at once: the class is which half is bright."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, count)
    inputs = draw.random((count, 1, 28, 28), dtype=np.float32) * 0.5
    for row, label in enumerate(labels):
        inputs[row, 0, 14 * label : 14 * label + 14] += 0.5
    np.savez(path, x=inputs, y=labels)


def client_config(folder: Path, settings: dict[str, Any], number: int, address: str) -> Path:
    shard(folder / f"train-{number}.npz", 96, number)
    shard(folder / f"evaluation-{number}.npz", 32, 100 + number)
    path = folder / f"client-{number}.json"
    content = {
        "model": settings["model"], "plan": settings["plan"] | {"epochs": 2, "batch": 16},
        "seed": number, "train": str(folder / f"train-{number}.npz"), "head": {"address": address, "security": {}},
        "evaluation": str(folder / f"evaluation-{number}.npz"),
    }  # fmt: skip
    path.write_text(json.dumps(content))
    return path


@pytest.mark.study
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["split", "federated"])
def test_flwr_run_trains(deployment: Deployment, tmp_path: Path, settings: dict[str, Any], mode: str) -> None:
    settings["plan"] |= {"mode": mode, "timeout": 60, "rounds": 1}
    settings["model"]["classes"] = 2
    config = tmp_path / "server.json"
    config.write_text(json.dumps(settings))
    history, checkpoints = Path(settings["history"]), Path(settings["checkpoints"])
    deployment.superlink()
    deployment.start("head", "python", "-m", "server", "head", "--config", str(config))
    wait_until(Path(settings["ready"]).exists, "the head")
    address = json.loads(Path(settings["ready"]).read_text())["address"]
    for number in range(2):
        deployment.supernode(f"node-{number}", client_config(tmp_path, settings, number, address))

    deployment.run(config)
    wait_until((checkpoints / "head-1.safetensors").exists, "the first round")
    rounds = json.loads(history.read_text())["rounds"]
    assert [entry["round"] for entry in rounds] == [1]
    assert all(len(entry["trained"]) == len(entry["evaluated"]) == 2 for entry in rounds), deployment.log()
    assert rounds[0]["evaluation_accuracy"] > 0.9
    stages = [load_file(checkpoints / f"{stage}-1.safetensors") for stage in ("encoder", "head")]
    assert {name.split(".")[0] for name in stages[0]} == {"0", "1"}
    assert {name.split(".")[0] for name in stages[1]} == {"2", "3", "4"}

    if mode == "split":
        # The same run again, for one round more: nothing is trained twice, and a killed client holds nobody up.
        config.write_text(json.dumps(settings | {"plan": settings["plan"] | {"rounds": 2, "timeout": 25}}))
        deployment.kill("node-1")
        deployment.run(config)
        wait_until((checkpoints / "head-2.safetensors").exists, "the second round")
        resumed = json.loads(history.read_text())["rounds"]
        assert resumed[:1] == rounds
        assert [entry["round"] for entry in resumed] == [1, 2]
        assert len(resumed[1]["trained"]) == len(resumed[1]["evaluated"]) == 1
        assert [entry["reason"] for entry in resumed[1]["dropped"]] == ["did not answer in time"]


def test_the_bundle_holds_what_the_apps_import() -> None:
    from flwr.cli.build import build_fab_from_disk

    with zipfile.ZipFile(BytesIO(build_fab_from_disk(REPOSITORY))) as bundle:
        files = {name for name in bundle.namelist() if name.endswith(".py")}
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, server.app, client.app; print(*(m.__file__ for m in sys.modules.values()"
         " if getattr(m, '__file__', None)), sep='\\n')"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    needed = {
        str(Path(path).relative_to(REPOSITORY))
        for path in loaded
        if path.startswith(str(REPOSITORY)) and ".venv" not in path
    }
    assert needed <= files
    assert {name.split("/")[0] for name in files} == {"client", "server", "wireleak"}
    assert not [name for name in files if re.match(r"wireleak/lab", name)]
