"""Files that travel to a node and back are the same files, and none lands outside its folder."""

import os
from pathlib import Path

import numpy as np
import pytest

from wireleak.lab.cluster.files import read, states, write, written_since
from wireleak.lab.cluster.work import RUN, moved


def test_a_file_arrives_as_it_was_an_empty_one_too(tmp_path: Path) -> None:
    sent, there = tmp_path / "sent", tmp_path / "there"
    sent.mkdir()
    contents = {"a/b.bin": os.urandom(100_000), "empty": b""}
    for name, content in contents.items():
        (sent / name).parent.mkdir(exist_ok=True)
        (sent / name).write_bytes(content)
    write(there, {name: read(sent / name) for name in contents})
    assert {name: (there / name).read_bytes() for name in contents} == contents


def test_a_file_that_was_read_may_be_removed(tmp_path: Path) -> None:
    (tmp_path / "capture").write_bytes(b"bytes")
    content = read(tmp_path / "capture")
    (tmp_path / "capture").unlink()
    assert content.tobytes() == b"bytes"


def test_only_new_and_changed_files_come_back_the_last_written_last(tmp_path: Path) -> None:
    for name in ("kept", "changed", "link"):
        (tmp_path / name).write_bytes(b"1")
    before = states(tmp_path)
    (tmp_path / "z-first").write_bytes(b"2")
    (tmp_path / "changed").write_bytes(b"22")
    (tmp_path / "a-last").write_bytes(b"3")
    for second, name in enumerate(("z-first", "changed", "a-last")):
        os.utime(tmp_path / name, (second, second))
    (tmp_path / "symlink").symlink_to(tmp_path / "kept")
    os.mkfifo(tmp_path / "pipe")
    assert list(written_since(tmp_path, before)) == ["z-first", "changed", "a-last"]


@pytest.mark.parametrize("name", ["../outside", "/outside"])
def test_no_file_is_written_outside_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="outside its folder"):
        write(tmp_path / "run", {name: np.zeros(1, np.uint8)})
    assert not (tmp_path / "outside").exists()


def test_a_config_moves_with_the_run_and_other_strings_stay() -> None:
    config = {
        "out": "/runs/x/c/adversary",
        "seen": ["/runs/x/c/tap/a.pcap", "/runs/xy/b.pcap"],
        "n": 3,
        "of": "at /runs/x/c",
    }
    there = moved(config, "/runs/x", RUN)
    assert there == {
        "out": f"{RUN}/c/adversary",
        "seen": [f"{RUN}/c/tap/a.pcap", "/runs/xy/b.pcap"],
        "n": 3,
        "of": "at /runs/x/c",
    }
    assert moved(there, RUN, "/runs/x") == config
