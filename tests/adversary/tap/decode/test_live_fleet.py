"""A real Flower federation, captured by tcpdump: every array that the app wrote to disk is decoded bit-equal."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adversary.tap.decode.observation import Kind
from adversary.tap.decode.read import events, observations

BIN = Path(sys.executable).parent

PROJECT = """
[project]
name = "tapped"
version = "0.1.0"
dependencies = []
[tool.flwr.app]
publisher = "wireleak"
[tool.flwr.app.components]
serverapp = "tapped_app:server"
clientapp = "tapped_app:client"
[tool.flwr.app.config]
folder = "{folder}"
"""

# "frozen" never changes and "twin" repeats "steps": Flower sends them once. "large" needs three chunks.
APP = """
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

client = ClientApp()
server = ServerApp()

@client.train()
def train(message, context):
    node, number = context.node_id, message.content["config"]["server-round"]
    rng = np.random.default_rng(node % 2**32 + number)
    arrays = {k: v.numpy() for k, v in message.content["arrays"].items()}
    arrays["large"] = rng.standard_normal(arrays["large"].shape).astype(np.float32)
    arrays["steps"] = np.asarray(arrays["steps"] + 1)
    arrays["twin"] = arrays["steps"].copy()
    arrays["half"] = np.asfortranarray(rng.standard_normal((3, 4)).astype(np.float16))
    np.savez(f"{context.run_config['folder']}/update-{number}-{node}.npz", **arrays)
    content = RecordDict({"arrays": ArrayRecord({k: Array(v) for k, v in arrays.items()}),
                          "metrics": MetricRecord({"num-examples": 3, "loss": 0.5})})
    return Message(content, reply_to=message)

@server.main()
def main(grid, context):
    import time
    folder = context.run_config["folder"]
    while len(nodes := list(grid.get_node_ids())) < 2:
        time.sleep(0.2)
    arrays = {"frozen": np.arange(1000.0), "large": np.zeros((3 << 20) // 2, np.float32)}
    arrays |= {"large": np.linspace(0, 1, 3 << 20, dtype=np.float32), "steps": np.array(0), "empty": np.zeros((0, 5))}
    for number in (1, 2):
        np.savez(f"{folder}/global-{number}.npz", **arrays)
        record = ArrayRecord({k: Array(v) for k, v in arrays.items()})
        content = RecordDict({"arrays": record, "config": ConfigRecord({"server-round": number, "lr": 0.1})})
        messages = [Message(content, dst_node_id=node, message_type="train") for node in nodes]
        replies = list(grid.send_and_receive(messages))
        assert len(replies) == 2 and not any(reply.has_error() for reply in replies)
        arrays = {k: v.numpy() for k, v in replies[0].content["arrays"].items() if k not in ("twin", "half")}
"""


def free_ports(count: Any) -> Any:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def processes() -> Iterator[Any]:
    """Starts commands that do not outlive the test."""
    started = []

    def start(command: Any, **options: Any) -> Any:
        process = subprocess.Popen(command, start_new_session=True, **options)
        started.append(process)
        return process

    yield start
    for process in reversed(started):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    for process in reversed(started):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.study
@pytest.mark.timeout(240)
def test_a_real_federation_is_decoded_bit_equal(tmp_path: Path, processes: Any) -> None:
    if shutil.which("tcpdump") is None:
        pytest.skip("needs tcpdump")
    capture = tmp_path / "fleet.pcap"
    folder = tmp_path / "written"
    folder.mkdir()
    run_federation(tmp_path, folder, capture, processes)

    found = list(observations([capture]))
    assert not [e for e in events([capture]) if type(e).__name__ == "CallEnded"]
    updates: dict[tuple[int, str], dict[str, Any]] = {}
    for o in found:
        if o.kind is Kind.MODEL_UPDATE:
            assert o.round is not None
            updates.setdefault((o.round, o.sender), {})[o.name] = o.tensor
    written = {tuple(path.stem.split("-")[1:]): np.load(path) for path in folder.glob("update-*.npz")}
    assert len(written) == 4
    assert {(str(number), sender) for number, sender in updates} == set(written)
    for (number, sender), arrays in updates.items():
        same(arrays, written[str(number), sender])
    models: dict[tuple[int, str], dict[str, Any]] = {}
    for o in found:
        if o.kind is Kind.GLOBAL_MODEL:
            assert o.round is not None
            models.setdefault((o.round, o.call), {})[o.name] = o.tensor
            assert o.sender == "1"
    assert sorted(number for number, _ in models) == [1, 1, 2, 2]
    for (number, _), arrays in models.items():
        same(arrays, np.load(folder / f"global-{number}.npz"))


def same(arrays: Any, written: Any) -> None:
    assert set(arrays) == set(written.files)
    for name in written.files:
        sent = written[name]
        assert arrays[name].dtype == sent.dtype and arrays[name].shape == sent.shape
        assert arrays[name].tobytes() == sent.tobytes()


def run_federation(tmp_path: Path, folder: Any, capture: Any, start: Any) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "pyproject.toml").write_text(PROJECT.format(folder=folder))
    (app / "tapped_app.py").write_text(APP)
    home = tmp_path / "home"
    home.mkdir()
    superlink, fleet, one, two = free_ports(4)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "tapped"\n[superlink.tapped]\naddress = "127.0.0.1:{superlink}"\ninsecure = true\n'
    )
    quiet = {"FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    options: dict[str, Any] = {
        "env": os.environ | quiet | {"OMP_NUM_THREADS": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
    }
    options |= {"cwd": tmp_path, "stdout": (tmp_path / "log").open("w"), "stderr": subprocess.STDOUT}
    tcpdump = ["tcpdump", "-i", "lo", "-U", "-B", "65536", "--immediate-mode", "-w", str(capture), f"tcp port {fleet}"]
    tap = start(tcpdump, stderr=subprocess.PIPE, text=True)
    if "listening" not in tap.stderr.readline():
        pytest.skip("tcpdump is not permitted")
    command = [BIN / "flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(superlink)]
    command += ["--fleet-api-address", f"127.0.0.1:{fleet}"]
    start([*command, "--disable-runtime-dependency-installation"], **options)
    for port in (one, two):
        node = ["--superlink", f"127.0.0.1:{fleet}", "--host", "127.0.0.1", "--port", str(port)]
        start([BIN / "flower-supernode", "--insecure", *node], **options)
    deadline = time.monotonic() + 80
    while subprocess.run([BIN / "flwr", "run", app, "tapped"], check=False, **options).returncode:
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(1)
    while len(list(folder.glob("update-2-*.npz"))) < 2:
        log = (tmp_path / "log").read_text()
        assert time.monotonic() < deadline and "Exit Code" not in log, log
        time.sleep(0.5)
    time.sleep(3)
    tap.send_signal(signal.SIGINT)
    tap.wait(10)
