"""A study on a Ray cluster of two nodes with folders of their own, one of which dies."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("ray", reason="needs Ray (make simulation)")

# With one client, runs of one secret are equal to the last bit.
STUDY = """
name = "tiny"
description = "a study for tests"
seeds = [0, 1]
[data]
name = "digits"
clients = 1
train = 200
evaluation = 100
attacker = 200
victims = 100
[model]
name = "strided28"
[system]
rounds = 1
epochs = 1
[serve]
copies = 0
[[variants]]
name = "wide"
cut = 1
[[attacks]]
name = "attributes"
targets = ["slant"]
untrained = "never"
"""


class Node:
    """A node of the cluster, with a temporary folder of its own."""

    def __init__(self, folder: Path, join: str | None) -> None:
        self.folder, self.address = folder, join or f"127.0.0.1:{_free_port()}"
        (folder / "tmp").mkdir(parents=True)
        role = ["--head", f"--port={self.address.rpartition(':')[2]}"] if join is None else [f"--address={join}"]
        options = {
            "num-cpus": 1,
            "object-store-memory": 100_000_000,
            "temp-dir": folder / "ray",
            "dashboard-agent-listen-port": _free_port(),
            "ray-client-server-port": _free_port(),
        }
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", *role]
        command += [f"--{name}={value}" for name, value in options.items()] + ["--include-dashboard=false"] * (not join)
        # A busy machine must not have Ray kill its tasks, and Ray must notice a death while the short run lasts.
        environment = os.environ | {
            "TMPDIR": str(folder / "tmp"),
            "RAY_memory_monitor_refresh_ms": "0",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_failure_threshold": "4",
        }
        with (folder / "log").open("wb") as log:
            self.process = psutil.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True
            )

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 90
        while "Ray runtime started" not in (log := (self.folder / "log").read_text(errors="replace")):
            assert self.process.poll() is None and time.monotonic() < deadline, log
            time.sleep(0.2)

    def die(self) -> list[psutil.Process]:
        """Kill Ray's own processes on the node at once; return those that its tasks have started."""
        tree = self.process.children(recursive=True)
        raylet = next(one for one in tree if one.name() == "raylet")
        work = [one for one in raylet.children(recursive=True) if "zygote" in " ".join(one.cmdline())]
        raylet.kill()
        self.stop()
        return work

    def stop(self) -> None:
        """End everything of this node."""
        with suppress(psutil.Error):
            left = [self.process, *self.process.children(recursive=True)]
            self.process.terminate()
            _, left = psutil.wait_procs(left, 15)
            for one in left:
                one.kill()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    started: list[Node] = []
    # The paths of Ray's sockets may have 107 characters, and those of pytest's own folders grow.
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    try:
        started.append(Node(folder / "0", None))
        started[0].wait_ready()
        started.append(Node(folder / "1", started[0].address))
        started[1].wait_ready()
        yield started
    finally:
        for node in reversed(started):
            node.stop()
        shutil.rmtree(folder, ignore_errors=True)


def until(condition: Callable[[], Any], run: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert run.poll() is None and time.monotonic() < deadline, run.communicate()
        time.sleep(0.05)


@pytest.mark.study
@pytest.mark.timeout(900)
def test_a_node_that_dies_costs_its_tasks_and_the_table_stays_the_same(
    nodes: list[Node], tmp_path: Path, wireleak: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.toml").write_text(STUDY)
    (tmp_path / "secret").write_text("5a" * 32)
    monkeypatch.setenv("WIRELEAK_SECRET", str(tmp_path / "secret"))
    command = [sys.executable, "-m", "wireleak", "run", "tiny.toml", "--ray", nodes[0].address]
    run = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: list(nodes[1].folder.glob("tmp/wireleak-*/wide-seed*/tap/*.pcap")), run)
    work = nodes[1].die()
    out, error = run.communicate(timeout=200)
    assert run.returncode == 0, out + error
    assert "died; Ray repeats its tasks on other nodes" in out and error == ""
    assert work and psutil.wait_procs(work, 10)[1] == []
    # Nothing is left on the other node either, where the run has ended in order.
    assert not list(nodes[0].folder.glob("tmp/wireleak-*"))

    here = (tmp_path / "runs" / "tiny-latest").resolve()
    table = (here / "results.csv").read_bytes()
    assert not [path for path in here.rglob("*.json") if str(nodes[0].folder) in path.read_text()]
    assert wireleak("run", "tiny.toml", "--out", "plain", cwd=tmp_path).returncode == 0
    assert (tmp_path / "plain" / "tiny-latest" / "results.csv").read_bytes() == table

    # A run goes on from what an interrupted one has, and Ctrl-C leaves no process on a node.
    shutil.rmtree(here / "wide-seed1")
    kept = (here / "wide-seed0" / "captured.json").stat().st_mtime_ns
    command += ["--resume", str(here)]
    run = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: list(nodes[0].folder.glob("tmp/wireleak-*/wide-seed1/tap/*.pcap")), run)
    work = [one for one in nodes[0].process.children(recursive=True) if "zygote" in " ".join(one.cmdline())]
    run.send_signal(signal.SIGINT)
    out, error = run.communicate(timeout=60)
    assert run.returncode == 130 and f"captures are kept in {here}" in out, out + error
    assert error.strip().splitlines() == ["wireleak: interrupted; every process was stopped"]
    assert work and psutil.wait_procs(work, 10)[1] == []
    assert not list(nodes[0].folder.glob("tmp/wireleak-*"))
    assert (here / "wide-seed0" / "captured.json").stat().st_mtime_ns == kept
