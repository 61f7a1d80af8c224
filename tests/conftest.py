"""What all tests share: one thread a process, and where the data sets are."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

# Whoever runs the tests in the background of a script has them ignore Ctrl-C, and what they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import settings

# The tests' runs draw alike every time; what they find would otherwise lie outside of a test's bounds now and then.
os.environ.setdefault("WIRELEAK_SECRET", str(Path(__file__).with_name("secret.txt")))

# A deadline measures the machine's load, not the code.
settings.register_profile("wireleak", deadline=None)
settings.load_profile("wireleak")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
# Studies that tests run find their data where this project's checkouts keep it.
if SHARED.is_dir():
    os.environ.setdefault("WIRELEAK_DATA", str(SHARED))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests of whole runs: they are the longest, and parallel workers then end together."""
    items.sort(key=lambda item: "whole" not in item.path.parts)


@pytest.fixture
def shared_data() -> Path:
    """Folder of the packed data sets, or a skip that names it."""
    if not SHARED.is_dir():
        pytest.skip(f"needs {SHARED}")
    return SHARED


@pytest.fixture
def no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that a test calls in its own process say nothing of their progress: how much they say is the load's."""
    monkeypatch.setattr("wireleak.lab.launch.watch._FIRST", 3600.0)


@pytest.fixture(scope="session")
def run_study(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Function (name, *options): run a study as a user does, in a folder of its own, and return the run's folder.

    What it printed lies beside the run's folder, in `printed.txt`.
    """

    def run(name: str, *options: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        command = [sys.executable, "-m", "wireleak", "run", name, *options]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=850)
        assert done.returncode == 0, done.stderr
        (folder / "runs" / "printed.txt").write_text(done.stdout)
        return folder / "runs" / f"{name}-latest"

    return run


@pytest.fixture(scope="session")
def default_study(run_study: Callable[..., Path]) -> Path:
    """Run the default study, and return the run's folder."""
    return run_study("digits")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Function (registry, source, **entry points): an installed package `outside` adds to that registry."""

    def install(registry: Any, source: Any, **points: Any) -> None:
        registry.all()  # ours, before the patches below, so that they outlast them
        (tmp_path / "outside.py").write_text(source)
        info = tmp_path / "outside-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
        lines = [f"[{registry.group}]", *(f"{name} = {target}" for name, target in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "outside", raising=False)
        monkeypatch.setattr(registry, "_plugins", dict(registry._plugins))
        monkeypatch.setattr(registry, "_broken", {})
        monkeypatch.setattr(registry, "_loaded", False)

    return install
