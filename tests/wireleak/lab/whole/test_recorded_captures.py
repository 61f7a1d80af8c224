"""`wireleak attack` as a user runs it: on a cut capture, on a pipe, in another folder, and a second time."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from wireleak.common.reads import MARK
from wireleak.lab.run.layout import CellFolder
from wireleak.lab.run.results import read_results

pytestmark = [pytest.mark.study, pytest.mark.timeout(900)]


def recorded(run: Path) -> tuple[CellFolder, bytes]:
    cell = CellFolder(run / "wide-seed0")
    path = cell.capture("serve-victim")
    return cell, gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def test_a_cut_capture_of_a_run_is_scored_with_a_mark(tiny_run: Any, wireleak: Any, tmp_path: Path) -> None:
    cell, whole = recorded(tiny_run[1])
    cut = cell.folder / "tap" / "cut.pcap"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    try:
        done = wireleak("attack", cut, "--attack", "linear", cwd=tmp_path)
        again = wireleak("attack", cut, "--attack", "linear", cwd=tmp_path)
    finally:
        cut.unlink()
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "cut-linear-input"
    rows = read_results(folder).rows
    (said,) = {row.incomplete for row in rows if row.role in ("attack", "reader")}
    assert said.startswith("read ") and said.endswith(" of 120 activations")
    assert f"{MARK} {said}" in done.stdout and f"{MARK} {said}" in (folder / "report.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert again.returncode == 0 and "holds these guesses already" in again.stdout


def test_a_pipe_is_attacked_where_the_user_stands(tiny_run: Any, wireleak: Any, tmp_path: Path) -> None:
    cell, whole = recorded(tiny_run[1])
    capture = tmp_path / "sent"
    capture.write_bytes(whole)
    files = ("--device", cell.capture("serve-attacker"), "--surrogate", cell.surrogate)
    with capture.open("rb") as pipe:
        done = wireleak("attack", "-", "--attack", "linear", *files, cwd=tmp_path, stdin=pipe)
    assert done.returncode == 0, done.stderr
    assert "read 120 of 120 activations" in done.stdout and "not scored: " in done.stdout
    assert (tmp_path / "stdin-linear-input" / "report.html").is_file()


def test_tls_is_named_and_nothing_is_scored(tiny_run: Any, wireleak: Any, tmp_path: Path) -> None:
    capture = CellFolder(tiny_run[1] / "sealed-seed0").capture("serve-victim")
    done = wireleak("attack", capture, "--attack", "attributes", "--target", "slant", cwd=tmp_path)
    assert done.returncode == 2 and "is TLS: nothing to read" in done.stderr and "AUC" not in done.stdout
    assert not any(tmp_path.iterdir())
