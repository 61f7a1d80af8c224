import contextlib
import errno
import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from tests.wireleak.lab.launch.tiny_app import write_tiny
from wireleak.lab.launch import federation as module
from wireleak.lab.launch import flower, runner
from wireleak.lab.launch.bundle import write_app
from wireleak.lab.launch.certificates import Authority
from wireleak.lab.launch.federation import Federation, Node, free_ports
from wireleak.lab.launch.flower_folder import SERVERAPP
from wireleak.lab.launch.jail import Jail, gap
from wireleak.lab.launch.processes import Launcher, LaunchError

pytest.importorskip("flwr")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("app"))


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    with Launcher(log=tmp_path_factory.mktemp("zygote") / "zygote.log") as launcher:
        yield launcher


@pytest.fixture
def launcher(forks: Launcher) -> Iterator[Any]:
    yield forks
    # A test's dead must not be found by the next one.
    for process in forks.processes:
        process.essential = False


def nodes(folder: Any, count: Any = 2, **config: Any) -> Any:
    return [Node(f"client-{i}", {"folder": str(folder), **config}) for i in range(count)]


def lives(folder: Path) -> list[list[str]]:
    """Run, node and process of each message."""
    return [line.split() for line in (folder / "pids").read_text().splitlines()]


def wait_for(condition: Any, seconds: Any = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def test_a_run_over_tls_in_jails_with_homes_of_its_own_and_past_a_dead_proxy(
    launcher: Any, app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    folder = tmp_path / "a run"
    tls = Authority(folder / "tls").server()
    own = {name: folder / f"data of {name}" for name in ("client-0", "client-1")}
    for name, place in own.items():
        place.mkdir(parents=True)
        (place / "own").write_text(name)
    jails = {name: Jail(write=(place,)) for name, place in {**own, SERVERAPP: folder / "server"}.items()}
    out = folder / "server" / "out.json"
    elsewhere = socket.create_server(("127.0.0.1", 0))
    port, peek = elsewhere.getsockname()[1], str(own["client-1"] / "own")
    roles = [Node(name, {"folder": str(place), "peek": peek, "port": port}) for name, place in own.items()]
    with elsewhere, Federation(launcher, folder, roles, tls=tls, app=app) as federation:
        federation.start_superlink()
        federation.start_nodes(jails=jails)
        for rounds in (1, 2):
            federation.run_app({"out": str(out), "rounds": rounds}, 60)
            assert json.loads(out.read_text()) == [rounds] * 3
        with pytest.raises(LaunchError, match="the ServerApp ended with status 1: RuntimeError: asked to fail"):
            federation.run_app({"fail": True}, 60)
        pids = [process.pid for process in launcher.processes if process.poll() is None]
        assert len(pids) == 4
    assert not any(psutil.pid_exists(pid) for pid in pids)
    # A ClientApp lives as long as its run; each client and each run has its own.
    each = [life for place in own.values() for life in lives(place)]
    assert len({pid for *_, pid in each}) == len({(run, node) for run, node, _ in each}) == 4
    if gap() is None:
        first, second = (json.loads((place / "tried").read_text()) for place in own.values())
        assert first == {str(own["client-0"] / "own"): "client-0", peek: errno.EACCES, "link": errno.EACCES}
        assert second == {peek: "client-1", "link": errno.EACCES}
    events = [json.loads(line) for line in federation.events.read_text().splitlines()]
    messages = [event for event in events if event["task"] == "flwr-clientapp"]
    assert len(messages) == 2 * 3
    # An import of torch and Flower alone takes 3 CPU-seconds or more.
    assert max(event["cpu"] for event in messages) < 1
    assert len(list(folder.glob("flower/*/apps/*"))) == 3
    assert not (Path.home() / ".flwr" / "apps" / "test.tiny.1.0.0").exists()


@pytest.mark.study
def test_a_client_app_that_fails_answers_with_its_error_and_is_replaced(
    launcher: Any, app: Path, tmp_path: Path
) -> None:
    roles = [*nodes(tmp_path), Node("client-2", {"folder": str(tmp_path), "stumble": True})]
    with Federation(launcher, tmp_path, roles, app=app) as federation:
        federation.start_superlink()
        federation.start_nodes()
        stumbling = federation.node_id("client-2")
        began = time.monotonic()
        federation.run_app({"out": str(tmp_path / "out.json"), "rounds": 2, "timeout": 90}, 120)
        assert time.monotonic() - began < 40
    assert json.loads((tmp_path / "out.json").read_text()) == [2.0] * 3
    assert "stumbled" in (tmp_path / "logs" / "serverapp.log").read_text()
    each = {node: [pid for _, other, pid in lives(tmp_path) if other == node] for _, node, _ in lives(tmp_path)}
    assert sorted(len(pids) for pids in each.values()) == [2, 2, 2]
    assert {node for node, pids in each.items() if len(set(pids)) == 2} == {stumbling}
    (lost,) = federation.lost()
    assert re.match(r"client-\d-app ended with status 1: .*stumbled", lost)


def killed_at_once(log: Path) -> None:
    """Kill the process that writes this log as soon as there is one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (path / "fd" / "1").readlink() == log:
                    os.kill(int(path.name), signal.SIGKILL)
                    return
    raise AssertionError(f"no process writes {log}")


@pytest.mark.study
def test_for_a_client_app_that_dies_before_it_took_its_message_another_process_answers(
    launcher: Any, app: Path, tmp_path: Path
) -> None:
    with Federation(launcher, tmp_path, nodes(tmp_path, 3), app=app) as federation:
        federation.start_superlink()
        federation.start_nodes()
        killer = threading.Thread(target=killed_at_once, args=[tmp_path / "logs" / "client-2-app.log"])
        killer.start()
        began = time.monotonic()
        federation.run_app({"out": str(tmp_path / "out.json"), "rounds": 2, "timeout": 90}, 120)
        # Not the round's 90 s, nor the 24 s after which Flower answers for an app that took its message.
        assert time.monotonic() - began < 20
        killer.join()
    assert json.loads((tmp_path / "out.json").read_text()) == [2.0] * 3
    assert "the ClientApp was killed by SIGKILL" in (tmp_path / "logs" / "serverapp.log").read_text()
    (lost,) = federation.lost()
    assert lost.startswith("client-2-app was killed by SIGKILL")


@pytest.mark.study
def test_a_node_killed_in_a_round_ends_neither_round_nor_run_but_the_superlink_does(
    launcher: Any, app: Path, tmp_path: Path
) -> None:
    roles = [*nodes(tmp_path), Node("client-2", {"folder": str(tmp_path), "hang": True})]
    with Federation(launcher, tmp_path, roles, app=app) as federation:
        federation.start_superlink()
        federation.start_nodes()

        def kill() -> None:
            wait_for(lambda: (tmp_path / "hanging").exists(), 60)
            federation.node("client-2").send_signal(signal.SIGKILL)
            hanging = int((tmp_path / "hanging").read_text().split()[0])
            wait_for(lambda: not psutil.pid_exists(hanging), 10)
            ends.append(time.monotonic())

        ends: list[float] = []
        killer = threading.Thread(target=kill)
        killer.start()
        federation.run_app({"out": str(tmp_path / "out.json"), "timeout": 90}, 120)
        assert ends, "the ClientApp outlived its node"
        # Not the round's 90 s: the silent node is given up.
        assert time.monotonic() - ends[0] < 40
        killer.join()
        assert json.loads((tmp_path / "out.json").read_text()) == [1.0] * 3
        (lost,) = federation.lost()
        assert lost.startswith("client-2 was killed by SIGKILL")
        assert federation._superlink is not None
        federation._superlink.send_signal(signal.SIGKILL)
        with pytest.raises(LaunchError, match="superlink was killed by SIGKILL"):
            federation.run_app({"out": str(tmp_path / "out.json")}, 60)


def test_the_death_of_all_nodes_ends_the_run(launcher: Any, app: Path, tmp_path: Path) -> None:
    with Federation(launcher, tmp_path, nodes(tmp_path, hang=True), app=app) as federation:
        federation.start_superlink()
        federation.start_nodes()

        def kill() -> None:
            wait_for(lambda: (tmp_path / "hanging").exists(), 60)
            for node in ("client-0", "client-1"):
                federation.node(node).send_signal(signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(LaunchError, match="every client has died; client-1 was killed by SIGKILL"):
            federation.run_app({"out": str(tmp_path / "out.json")}, 60)
        killer.join()


def test_a_node_that_dies_before_the_app_runs_ends_the_run(launcher: Any, app: Path, tmp_path: Path) -> None:
    with Federation(launcher, tmp_path, nodes(tmp_path), app=app) as federation:
        federation.start_superlink()
        federation.start_nodes()
        federation.node("client-1").send_signal(signal.SIGKILL)
        with pytest.raises(LaunchError, match=r"^client-1 was killed by SIGKILL"):
            federation.run_app({"out": str(tmp_path / "out.json")}, 60)


def test_a_taken_port_is_left_to_its_owner(
    launcher: Any, app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as owner:
        taken = owner.getsockname()[1]
        offers = [[taken, free_ports(1)[0]], [free_ports(1)[0], taken]]
        monkeypatch.setattr(module, "free_ports", lambda count: offers.pop(0) if offers else free_ports(count))
        with Federation(launcher, tmp_path, nodes(tmp_path), app=app) as federation:
            assert not federation.start_superlink().endswith(f":{taken}")
            assert offers == []
            offers.append([taken, 0])
            federation.start_nodes()
            launcher.check()


def test_a_superlink_that_cannot_start_says_why(launcher: Any, app: Path, tmp_path: Path) -> None:
    identity = Authority(tmp_path / "tls").server()
    identity.key.write_text("no key")
    federation = Federation(launcher, tmp_path, nodes(tmp_path), tls=identity, app=app)
    with federation, pytest.raises(LaunchError, match="superlink ended with status"):
        federation.start_superlink()


def test_a_quote_in_a_path_is_refused_by_name(launcher: Any, app: Path, tmp_path: Path) -> None:
    federation = Federation(launcher, tmp_path, [Node("client-0", {"config": 'a"b'})], app=app)
    with pytest.raises(LaunchError, match="config: Flower accepts no quote"):
        federation.start_nodes()


LAB = """
import sys
from pathlib import Path
from wireleak.lab.launch.federation import Federation, Node
from wireleak.lab.launch.processes import Launcher
folder = Path(sys.argv[1])
roles = [Node(f"client-{i}", {"folder": str(folder), "hang": True}) for i in range(2)]
with Launcher() as launcher, Federation(launcher, folder, roles, app=Path(sys.argv[2])) as federation:
    federation.start_superlink()
    federation.start_nodes()
    federation.run_app({"out": "none", "rounds": 1}, 60)
"""


@pytest.mark.parametrize(
    ("number", "limit"), [pytest.param(signal.SIGKILL, 5, id="kill"), pytest.param(signal.SIGINT, 8, id="ctrl-c")]
)
def test_no_process_of_a_federation_outlives_the_lab(number: Any, limit: Any, app: Path, tmp_path: Path) -> None:
    lab = subprocess.Popen([sys.executable, "-c", LAB, str(tmp_path), str(app)], stderr=subprocess.DEVNULL)
    try:
        hanging = tmp_path / "hanging"
        wait_for(lambda: hanging.exists() and hanging.read_text().endswith(" "), 60)
        # Fork server, SuperLink, 2 SuperNodes, runner, ServerApp, 2 ClientApps that have a child each.
        wait_for(lambda: len(psutil.Process(lab.pid).children(recursive=True)) >= 10, 20)
        family = psutil.Process(lab.pid).children(recursive=True)
        assert {int(pid) for pid in hanging.read_text().split()} <= {process.pid for process in family}
        os.kill(lab.pid, number)
        _, alive = psutil.wait_procs(family, timeout=limit)
        assert alive == []
    finally:
        lab.kill()
        lab.wait()


@pytest.mark.study
def test_flowers_own_mode_does_the_same_and_leaves_nothing(launcher: Any, app: Path, tmp_path: Path) -> None:
    with Federation(launcher, tmp_path, nodes(tmp_path), app=app, isolation="subprocess") as federation:
        federation.start_superlink()
        federation.start_nodes()
        federation.run_app({"out": str(tmp_path / "out.json")}, 120)
        assert json.loads((tmp_path / "out.json").read_text()) == [1.0] * 3
        with pytest.raises(LaunchError, match=r"the ServerApp failed: .*asked to fail"):
            federation.run_app({"fail": True}, 120)
        family = psutil.Process(launcher._zygote.pid).children(recursive=True)
        assert len(family) >= 6
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []


def test_flowers_own_mode_is_the_fallback(
    launcher: Any, app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flower, "unavailable", lambda: "no module named flwr.supercore.runtime")
    assert Federation(launcher, tmp_path, nodes(tmp_path), app=app).isolation == "subprocess"
    assert "no module named flwr.supercore.runtime" in caplog.text


def test_the_apps_folder_is_what_the_project_declares(tmp_path: Path) -> None:
    repository = Path(module.__file__).resolve().parents[3]
    folder = write_app(tmp_path / "app")
    written = tomllib.loads((folder / "pyproject.toml").read_text())
    if not (repository / "pyproject.toml").exists():
        pytest.skip("wireleak is not run from a checkout")
    declared = tomllib.loads((repository / "pyproject.toml").read_text())
    assert written["tool"]["flwr"] == declared["tool"]["flwr"]
    assert written["project"]["version"] == declared["project"]["version"]
    assert (folder / "wireleak" / "common" / "wire" / "codec.py").read_bytes()
    assert not list(folder.glob("wireleak/lab"))


def test_a_bundle_is_unpacked_once_and_another_one_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_clientapp = importlib.import_module("flwr.supernode.runtime.run_clientapp")
    unpacked = []

    def install(content: bytes, skip_prompt: bool) -> None:
        if content == b"damaged":
            raise ValueError("File hashes couldn't be verified.")
        unpacked.append(content)

    monkeypatch.setattr(run_clientapp, "install_from_fab", install)
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    for content in (b"one", b"one", b"other", b"one"):
        flower.install_once(content)
    assert unpacked == [b"one", b"other"]
    for _ in range(2):
        with pytest.raises(ValueError, match="verified"):
            flower.install_once(b"damaged")


def test_a_node_calls_the_runner_when_it_has_been_given_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_client_internal = importlib.import_module("flwr.supernode.start_client_internal")
    given = iter([7, None, 8])
    monkeypatch.setattr(start_client_internal, "_pull_and_store_message", lambda *_, **__: next(given))
    wake = tmp_path / "wake"
    os.mkfifo(wake)
    flower._call_when_given_a_message(str(wake))
    assert start_client_internal._pull_and_store_message(state=None) == 7  # without a runner nobody waits
    mine, other = SimpleNamespace(pid=os.getpid(), not_before=9.0), SimpleNamespace(pid=1, not_before=9.0)
    listening = runner.Runner(0.01, tmp_path / "events", wake, cast(Any, [mine, other]))
    assert start_client_internal._pull_and_store_message(state=None) is None
    listening._listen()
    assert (mine.not_before, other.not_before) == (9.0, 9.0)
    assert start_client_internal._pull_and_store_message(state=None) == 8
    listening._listen()
    assert (mine.not_before, other.not_before) == (0.0, 9.0)


def test_where_there_are_no_named_pipes_nodes_are_asked(
    launcher: Any, app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError("Operation not supported")

    monkeypatch.setattr(os, "mkfifo", refuse)
    with Federation(launcher, tmp_path, nodes(tmp_path), app=app) as federation:
        federation.start_superlink()
        federation.start_nodes()
        federation.run_app({"out": str(tmp_path / "out.json")}, 60)
    assert json.loads((tmp_path / "out.json").read_text()) == [1, 1, 1]
