"""Send a study's captures and attacks to a Ray cluster, and write the files that come back into the run's folder."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import pickle
import shutil
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from wireleak.lab.cluster.files import read, states, write
from wireleak.lab.cluster.versions import versions
from wireleak.lab.cluster.work import RUN, Attack, Capture, Outcome, moved
from wireleak.lab.launch.processes import Launcher, LaunchError
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.job import AttackJob
from wireleak.lab.steps.attack import attack_config
from wireleak.lab.steps.deal import write_cell
from wireleak.lab.steps.executor import Say
from wireleak.lab.steps.plan import Plan
from wireleak.lab.study.schema import Study, StudyError

# What a process of a task holds, measured: the imports, which forks share, and each process's own pages.
_IMPORTS, _PROCESS = 512 << 20, 64 << 20
# An attack holds the tensors of its captures, and copies of them while it fits.
_COPIES = 3
# Ray's own default; a task whose node died counts as one.
_RETRIES = 3
_LOOK_SECONDS = 10.0


class RayExecutor:
    """Run captures and attacks as tasks on a Ray cluster; Ray chooses nodes and repeats a task whose node died.

    Parameters
    ----------
    ray : module
        Ray, connected to a cluster.
    console : Console
        Output for warnings.
    """

    def __init__(self, ray: Any, console: Console) -> None:
        # Two tasks for each CPU, so that no node waits for this machine.
        self.jobs = max(4, 2 * int(ray.cluster_resources().get("CPU", 0)))
        self.processes: list[dict[str, Any]] = []
        self._ray, self._console = ray, console
        self._task = ray.remote(_task())
        self._lock = threading.Lock()
        self._pending: set[Any] = set()
        self._stopped = False
        self._gone = {node["NodeID"] for node in ray.nodes() if not node["Alive"]}
        # Files that attacks share, by cell and path, while any attack of the cell is under way.
        self._shared: dict[str, dict[Path, Any]] = {}
        self._readers: Counter[str] = Counter()

    def check(self, study: Study) -> None:
        """Refuse what is on this machine only: systems of emulated devices, and files of weights."""
        if study.devices:
            raise StudyError(f"--ray: {study.name} emulates devices, which works on one machine only; drop --ray")
        for variant in study.variants:
            if (file := study.weights_of(variant, study.seeds_of(variant)[0])) is not None:
                raise StudyError(f"--ray: {variant.name} begins with {file}, which the nodes do not have; drop --ray")

    def capture(self, cell: Cell, plan: Plan, launcher: Launcher, say: Say, warn: Say) -> None:
        """Deal a cell's data and capture the cell on a node; ground truth stays on this machine."""
        shutil.rmtree(cell.folder, ignore_errors=True)
        write_cell(plan, cell)
        dealt = (cell.folder / name for name in states(cell.folder))
        files = {path: self._ray.put(read(path)) for path in dealt if not path.is_relative_to(cell.sealed(""))}
        say("on the cluster")
        memory = _IMPORTS + _PROCESS * (8 + 2 * len(cell.clients))
        self._run(cell.name, Capture(cell), files, cell.run, memory, warn)

    def attack(self, job: AttackJob, launcher: Launcher, attack: dict[str, Any]) -> None:
        """Run an attack on a node, which gets the files that the attack's config names and no others."""
        cell = job.cell
        config, log = attack_config(job, attack)
        with self._files_of(cell.name, _named(config, cell.run)) as files:
            memory = _IMPORTS + _PROCESS + _COPIES * sum(path.stat().st_size for path in files)
            task = Attack(job.name, moved(config, str(cell.run), RUN), log.relative_to(cell.run).as_posix())
            self._run(job.name, task, files, cell.run, memory, self._console.print)

    def stop(self) -> None:
        """Cancel every task; nodes end its processes."""
        with self._lock:
            self._stopped = True
            for pending in self._pending:
                self._ray.cancel(pending)

    def _run(
        self, name: str, task: Capture | Attack, files: Mapping[Path, Any], run: Path, memory: int, warn: Say
    ) -> None:
        """Run a task to its end and write its files; a failed task's too."""
        options = {"name": name, "num_cpus": 1, "memory": memory, "max_retries": _RETRIES}
        names = {path.relative_to(run).as_posix(): reference for path, reference in files.items()}
        with self._lock:
            if self._stopped:
                raise LaunchError("every task was cancelled")
            pending = self._task.options(**options).remote(versions(), pickle.dumps(task), names, str(run))
            self._pending.add(pending)
        try:
            outcome = self._result(pending, memory)
        except self._ray.exceptions.RayError as error:
            raise LaunchError(f"{name}: {_first_line(error)}") from None
        finally:
            with self._lock:
                self._pending.discard(pending)
        for line in outcome.warnings:
            warn(line)
        write(run, outcome.files)
        self.processes += outcome.processes
        if outcome.error is not None:
            raise LaunchError(outcome.error)

    def _result(self, pending: Any, memory: int) -> Outcome:
        """Wait for a task's result, and tell the user when nodes are missing."""
        fits = True
        while not self._ray.wait([pending], timeout=_LOOK_SECONDS)[0]:
            if self._stopped:
                raise LaunchError("every task was cancelled")
            nodes = self._ray.nodes()
            self._tell_of_dead(nodes)
            fitted, fits = fits, any(node["Alive"] and _fits(node["Resources"], memory) for node in nodes)
            if fitted and not fits:
                need = f"1 CPU and {memory / 2**30:.1f} GiB of memory"
                self._console.print(f"no node of the cluster has {need}; a task waits for one", soft_wrap=True)
        answer = self._ray.get(pending)
        # A task that was repeated may end before the next look.
        self._tell_of_dead(self._ray.nodes())
        if isinstance(answer, str):
            raise LaunchError(answer)
        outcome: Outcome = answer
        return outcome

    def _tell_of_dead(self, nodes: list[dict[str, Any]]) -> None:
        with self._lock:
            dead = {node["NodeID"]: node["NodeManagerAddress"] for node in nodes if not node["Alive"]}
            for identity in dead.keys() - self._gone:
                self._console.print(f"node {dead[identity]} died; Ray repeats its tasks on other nodes", soft_wrap=True)
            self._gone |= dead.keys()

    @contextmanager
    def _files_of(self, cell: str, paths: set[Path]) -> Iterator[dict[Path, Any]]:
        """Lend references to files of a cell; attacks on one cell share them."""
        with self._lock:
            shared = self._shared.setdefault(cell, {})
            self._readers[cell] += 1
            for path in paths - shared.keys():
                shared[path] = self._ray.put(read(path))
            lent = {path: shared[path] for path in paths}
        try:
            yield lent
        finally:
            with self._lock:
                self._readers[cell] -= 1
                if not self._readers[cell]:
                    del self._shared[cell]


@contextmanager
def on_cluster(address: str, console: Console) -> Iterator[RayExecutor]:
    """Connect to a Ray cluster that is running; when left, no process of this run is on it.

    Parameters
    ----------
    address : str
        "auto" for the cluster that this machine is a node of, else HOST:PORT of its head.
    console : Console
        Output for warnings.

    Raises
    ------
    LaunchError
        Ray is not installed, or there is no such cluster.
    """
    if importlib.util.find_spec("ray") is None:
        raise LaunchError(
            "--ray: Ray is not installed; run pip install 'wireleak[simulation]' (in a checkout, make simulation)"
        )
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray sets CUDA_VISIBLE_DEVICES of tasks without a GPU, and otherwise warns that it will stop doing so.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray: Any = importlib.import_module("ray")
    _reach(address)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, configure_logging=True)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise LaunchError(f"--ray: {_refusal(address, error)}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
    # Ray would print the log of a node that died into the progress bars.
    worker: Any = importlib.import_module("ray._private.worker")
    worker._worker_logs_enabled = False
    try:
        yield RayExecutor(ray, console)
    finally:
        ray.shutdown()


def _task() -> Callable[[dict[str, str], bytes, dict[str, Any], str], Any]:
    """Return a task's function. Ray sends a nested function by value, so it can say that wireleak is missing."""

    def run(expected: dict[str, str], task: bytes, references: dict[str, Any], run: str) -> Any:
        import importlib
        import pickle

        import ray

        node = f"node {ray.util.get_node_ip_address()} of the cluster"
        advice = "install the same wireleak and libraries on every node"
        try:
            compare = importlib.import_module("wireleak.lab.cluster.versions").difference
        except ImportError as error:
            return f"{node}: {error}; {advice}"
        if (problem := compare(expected)) is not None:
            return f"{node}: {problem}; {advice}"
        files = dict(zip(references, ray.get(list(references.values())), strict=True))
        return importlib.import_module("wireleak.lab.cluster.work").perform(pickle.loads(task), files, run)

    return run


def _fits(resources: Mapping[str, float], memory: int) -> bool:
    return resources.get("CPU", 0) >= 1 and resources.get("memory", 0) >= memory


def _named(config: Any, run: Path) -> set[Path]:
    """Return every file of the run that an attack's config names, or that is in a folder that it names."""
    if isinstance(config, dict):
        return {path for key, value in config.items() if key != "out" for path in _named(value, run)}
    if isinstance(config, list):
        return {path for value in config for path in _named(value, run)}
    if not isinstance(config, str) or not config.startswith(f"{run}/"):
        return set()
    path = Path(config)
    return {path / name for name in states(path)} if path.is_dir() else {path} if path.is_file() else set()


def _reach(address: str) -> None:
    """Refuse a head that does not answer; Ray would wait for minutes."""
    host, colon, port = address.rpartition(":")
    if address == "auto":
        return
    if not colon or not port.isdigit():
        raise LaunchError(f"--ray: {address!r} is neither auto nor HOST:PORT; a cluster's head listens on port 6379")
    try:
        with contextlib.closing(socket.create_connection((host, int(port)), timeout=5)):
            return
    except (OSError, OverflowError) as error:
        raise LaunchError(f"--ray: {_refusal(address, error)}") from None


def _refusal(address: str, error: BaseException) -> str:
    if address == "auto":
        return "no Ray cluster is running on this machine; start one with: ray start --head --disable-usage-stats"
    return (
        f"cannot join the Ray cluster at {address} ({_first_line(error)}); this machine must be one of its nodes: "
        f"ray start --address={address} --num-cpus=0"
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
