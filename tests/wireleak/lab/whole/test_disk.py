"""Every command on a full disk and in a read-only folder: one line, nothing half-written, and it goes on afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from wireleak.cli import app

MODEL = ("examples/audit_model.py:make", "--cut", "2", "--input-shape", "1,28,28", "--classes", "even,odd")
CAPTURE = "wide-seed0/tap/serve-victim.pcap"


def commands(run: Path, out: Path) -> dict[str, tuple[str, ...]]:
    """Return commands that write into a run's folder, or into another one of that disk."""
    examples = str(Path(__file__).parents[4] / MODEL[0])
    return {
        "report": ("report", str(run)),
        "figures": ("figures", str(run), "--only", "traffic-wide"),
        "layers": ("layers", str(run), "--permutations", "1", "--examples", "60", "--resume"),
        "attack": ("attack", str(run / CAPTURE), "--attack", "attributes", "--target", "slant", "--out", str(out)),
        "export": ("export", examples, *MODEL[1:], "--out", str(out / "encoder")),
    }


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Mount a file system on a folder while the block lasts."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() or subprocess.run(["mount", *options, folder], capture_output=True).returncode:
        pytest.skip("this machine does not let the test mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def files(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copied(run: Path, to: Path) -> Path:
    """Copy a run without Flower's private homes, which hold pipes, and without the captures of training."""
    return Path(shutil.copytree(run, to, ignore=shutil.ignore_patterns("flower", "train-*.pcap", "fleet-*.pcap")))


def refused(wireleak: Any, disk: Path, said: str) -> None:
    """Check that every command fails in one line that says why, and changes no file."""
    before = files(disk)
    for name, arguments in commands(disk / "run", disk / "out").items():
        done = wireleak(*arguments, cwd=disk.parent)
        lines = [line for line in done.stderr.strip().splitlines() if not line.startswith("[")]
        assert done.returncode == 2, (name, done.stderr)
        assert len(lines) == 1 and said in lines[0], (name, done.stderr)
        assert files(disk) == before, name


@pytest.mark.study
def test_a_full_disk_is_one_line_and_the_commands_go_on_once_there_is_room(
    tmp_path: Path, tiny_run: Any, wireleak: Any
) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=128m", "tmpfs") as disk:
        run = copied(tiny_run[1], disk / "run")
        filler = disk / "filler"
        with filler.open("wb") as file, pytest.raises(OSError, match="No space left"):
            while True:
                os.write(file.fileno(), bytes(4096))
        refused(wireleak, disk, "No space left on device")
        filler.unlink()
        for name, arguments in commands(run, disk / "out").items():
            done = wireleak(*arguments, cwd=tmp_path)
            assert done.returncode == 0, (name, done.stderr)


@pytest.mark.study
def test_a_read_only_folder_is_one_line(tmp_path: Path, tiny_run: Any, wireleak: Any) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=128m", "tmpfs") as disk:
        copied(tiny_run[1], disk / "run")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        refused(wireleak, disk, "Read-only file system")


def test_a_folder_that_cannot_be_written_is_one_line_in_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: Path) -> Path:
        raise OSError(30, "Read-only file system", str(run / "report.html"))

    monkeypatch.setattr("wireleak.lab.report.page.render", refuse)
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == (
        f"wireleak: {tmp_path}/report.html cannot be written: Read-only file system; free space, or choose a folder "
        "that you can write to"
    )
