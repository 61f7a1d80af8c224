"""The thin device as a user installs it: its size, its packages, and that it streams."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from client.device.__main__ import parser
from server.head import RunningHead

ROOT = Path(__file__).resolve().parents[3]
MOST_BYTES = 180e6
ABSENT = ("torch", "flwr", "pydantic", "typer", "scipy", "onnx", "PIL")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """An environment with `pip install .[device]` and nothing else."""
    source = tmp_path / "source"
    for name in ("wireleak", "client", "server", "adversary"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "constraints.txt"):
        shutil.copy(ROOT / name, source)
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    done = subprocess.run(
        [*pip, "--constraint", "constraints.txt", ".[device]"], cwd=source, capture_output=True, text=True, timeout=280
    )
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    return tmp_path / "venv"


@pytest.mark.study
def test_an_installed_device_is_small_has_no_torch_and_streams(
    installed: Path, encoder: Path, head: RunningHead, pictures: Path, tmp_path: Path
) -> None:
    def run(*argv: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*map(str, argv)], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    (packages,) = installed.glob("lib/python*/site-packages")
    size = sum(path.stat().st_size for path in packages.rglob("*") if path.is_file())
    assert size < MOST_BYTES, f"{size / 1e6:.0f} MB"
    assert [name for name in ABSENT if (packages / name).exists()] == []
    device = installed / "bin" / "wireleak-device"
    assert "usage: wireleak-device ENCODER [OPTIONS]" in run(device, "--help").stdout
    done = run(device, encoder, "--head", f"127.0.0.1:{head.port}", "--input", pictures)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 20), done.stderr
    figures = run(device, encoder, "--benchmark")
    assert "onnxruntime" in figures.stdout and "torch" not in figures.stdout, figures.stderr
    lab = run(installed / "bin" / "wireleak", "run", "digits")
    assert lab.stderr.count("\n") == 1
    assert "install the testbed: pip install 'wireleak[lab]'" in lab.stderr


def test_code_without_an_installed_package_runs_and_only_lacks_its_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("client.device.__main__.version", missing)
    assert parser().parse_args(["encoder"]).encoder.name == "encoder"
    with pytest.raises(SystemExit):
        parser().parse_args(["--version"])
    assert "is not installed as a package" in capsys.readouterr().err
