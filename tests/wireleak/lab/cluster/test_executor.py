"""The side of a cluster that sends tasks, with a stand-in for Ray; the real one runs in `whole/test_ray_cluster.py`."""

import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console

from wireleak.lab.cluster import executor as module
from wireleak.lab.cluster import versions
from wireleak.lab.cluster.executor import RayExecutor, on_cluster
from wireleak.lab.cluster.work import Outcome
from wireleak.lab.launch.processes import LaunchError
from wireleak.lab.study.library import load_study
from wireleak.lab.study.schema import Study, StudyError

NODE = {
    "Alive": True,
    "NodeID": "a",
    "NodeManagerAddress": "10.0.0.1",
    "Resources": {"CPU": 4.0, "memory": float(8 << 30)},
}


class StandIn:
    """A Ray whose tasks all end with the same result, which it looks for `looks` times."""

    exceptions = SimpleNamespace(RayError=RuntimeError)

    def __init__(self, result: Any, looks: int = 0, nodes: Any = (NODE,)) -> None:
        self.result, self.looks, self._nodes = result, looks, list(nodes)
        self.sent: list[tuple[Any, dict[str, Any]]] = []
        self.asked: dict[str, Any] = {}
        self.cancelled: list[Any] = []

    def nodes(self) -> list[Any]:
        return self._nodes.pop(0) if isinstance(self._nodes[0], list) else self._nodes

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 4.0}

    def put(self, value: Any) -> Any:
        return bytes(value)

    def remote(self, function: Callable[..., Any]) -> Any:
        return self

    def options(self, **asked: Any) -> Any:
        self.asked = asked
        return SimpleNamespace(remote=self._submit)

    def _submit(self, expected: Any, task: bytes, files: dict[str, Any], run: str) -> str:
        self.sent.append((pickle.loads(task), files))
        return "pending"

    def wait(self, pending: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        self.looks -= 1
        return ([], pending) if self.looks >= 0 else (pending, [])

    def get(self, pending: Any) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def cancel(self, pending: Any) -> None:
        self.cancelled.append(pending)


class Cell:
    """A cell of two clients, as far as the executor looks at it."""

    def __init__(self, run: Path) -> None:
        self.run, self.name, self.clients = run, "wide-seed0", ["client-0", "client-1"]

    @property
    def folder(self) -> Path:
        return self.run / self.name

    def sealed(self, name: str) -> Path:
        return self.folder / "sealed" / name


def capture(stand_in: StandIn, run: Path, monkeypatch: pytest.MonkeyPatch, console: Console | None = None) -> None:
    def write_cell(plan: Any, cell: Any) -> None:
        for name in ("client-0/train.npz", "sealed/ledger.npz", "sealed-not/x"):
            (cell.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (cell.folder / name).write_bytes(name.encode())

    monkeypatch.setattr(module, "write_cell", write_cell)
    one = RayExecutor(stand_in, console or Console(quiet=True))
    one.capture(cast(Any, Cell(run)), cast(Any, None), cast(Any, None), lambda _: None, lambda _: None)


def test_the_ground_truth_stays_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"wide-seed0/captured.json": np.frombuffer(b"done", np.uint8)}
    stand_in = StandIn(Outcome(files))
    (tmp_path / "another-seed0").mkdir()
    (tmp_path / "another-seed0" / "file").touch()
    capture(stand_in, tmp_path, monkeypatch)
    ((task, sent),) = stand_in.sent
    assert task.cell.name == "wide-seed0"
    assert set(sent) == {"wide-seed0/client-0/train.npz", "wide-seed0/sealed-not/x"}
    assert (tmp_path / "wide-seed0/captured.json").read_bytes() == b"done"
    assert stand_in.asked["num_cpus"] == 1 and stand_in.asked["memory"] > 1 << 30


def test_a_failed_task_leaves_its_files_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = Outcome({"wide-seed0/tap/a.pcap": np.frombuffer(b"half", np.uint8)}, error="the head was killed")
    with pytest.raises(LaunchError, match=r"^the head was killed$"):
        capture(StandIn(failed), tmp_path, monkeypatch)
    assert (tmp_path / "wide-seed0/tap/a.pcap").read_bytes() == b"half"


def test_an_error_of_ray_is_one_line_that_names_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LaunchError, match=r"^wide-seed0: The node died\.$"):
        capture(StandIn(RuntimeError("\nThe node died.\nIts log: …")), tmp_path, monkeypatch)


def test_a_node_that_died_and_one_that_is_missing_are_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = NODE | {"Resources": {"CPU": 4.0, "memory": 1.0}}
    dead = [small | {"Alive": False}]
    stand_in = StandIn(Outcome(), 2, [[small], dead, dead, dead])
    capture(stand_in, tmp_path, monkeypatch, Console())
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "node 10.0.0.1 died; Ray repeats its tasks on other nodes"
    assert said[1].startswith("no node of the cluster has 1 CPU and 1.") and len(said) == 2


def test_a_death_is_said_also_when_the_task_ends_before_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in = StandIn(Outcome(), 0, [[NODE], [NODE | {"Alive": False}]])
    capture(stand_in, tmp_path, monkeypatch, Console())
    assert "died; Ray repeats its tasks" in capsys.readouterr().out


def test_after_a_stop_no_task_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = StandIn(Outcome())
    one = RayExecutor(stand_in, Console(quiet=True))
    one._pending = {"running"}
    one.stop()
    assert stand_in.cancelled == ["running"]
    monkeypatch.setattr(module, "write_cell", lambda plan, cell: None)
    with pytest.raises(LaunchError, match="cancelled"):
        one.capture(cast(Any, Cell(tmp_path)), cast(Any, None), cast(Any, None), lambda _: None, lambda _: None)
    assert stand_in.sent == []


def test_only_files_that_an_attack_s_config_names_are_sent(tmp_path: Path) -> None:
    for name in ("c/tap/a.pcap", "c/tap/b.pcap", "c/kept/1", "c/kept/deep/2", "c/out/old", "c/sealed/ledger.npz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    config = {
        "captures": {"victims": [f"{tmp_path}/c/tap/a.pcap"]},
        "granted": {"files": {"hijack": f"{tmp_path}/c/kept"}, "model": {"name": "lenet"}},
        "out": f"{tmp_path}/c/out",
        "tensors": None,
    }
    sent = {path.relative_to(tmp_path).as_posix() for path in module._named(config, tmp_path)}
    assert sent == {"c/tap/a.pcap", "c/kept/1", "c/kept/deep/2"}


def test_a_node_with_other_software_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    here = versions.versions()
    assert versions.difference(here) is None
    assert versions.difference(here | {"torch": "1.0"}) == f"it has torch {here['torch']}, and this run needs 1.0"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("localhost", "--ray: 'localhost' is neither auto nor HOST:PORT"),
        ("127.0.0.1:1", r"--ray: cannot join the Ray cluster at 127\.0\.0\.1:1 .* ray start --address=127\.0\.0\.1:1 "),
    ],
)
def test_a_wrong_address_is_one_line(address: str, message: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(LaunchError, match=message), on_cluster(address, Console()):
        pass


def test_a_missing_ray_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LaunchError, match=r"wireleak\[simulation\]"), on_cluster("auto", Console()):
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"devices": [{"name": "kitchen", "kind": "pi"}]}, "emulates devices"),
        ({"model": {"name": "strided28", "weights": "w.safetensors"}}, "wide begins with w.safetensors"),
    ],
)
def test_a_study_that_needs_files_of_this_machine_is_refused(change: dict[str, Any], message: str) -> None:
    study = load_study("digits")[0].model_dump(mode="json")
    one = RayExecutor(StandIn(Outcome()), Console(quiet=True))
    one.check(Study.model_validate(study))
    with pytest.raises(StudyError, match=f"--ray: .*{message}"):
        one.check(Study.model_validate(study | change))
