"""Arrays on disk, and files with a second name."""

import errno
import os
import resource
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from wireleak.common.files import OWNER, link_or_copy, replacing, write_arrays, write_atomically


@pytest.mark.parametrize("compress", [False, True])
def test_numpy_reads_what_was_written(tmp_path: Path, compress: bool) -> None:
    arrays: dict[str, Any] = {"x": np.zeros((40, 5, 5), np.float32), "attribute:a": np.arange(40), "n": np.int64(3)}
    path = write_arrays(tmp_path / "a.npz", arrays, compress=compress)
    with np.load(path, allow_pickle=False) as stored:
        assert set(stored.files) == set(arrays)
        assert all(np.array_equal(stored[name], value) for name, value in arrays.items())
    assert (path.stat().st_size < arrays["x"].nbytes) == compress


def test_a_file_without_hard_links_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"1")
    assert link_or_copy(source, tmp_path / "to" / "b").samefile(source)

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    copy = link_or_copy(source, tmp_path / "to" / "b")
    assert copy.read_bytes() == b"1" and not copy.samefile(source)


@pytest.mark.parametrize(("mask", "rights"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_file_has_the_rights_that_the_umask_leaves_and_a_secret_is_its_owner_s(
    tmp_path: Path, mask: int, rights: int
) -> None:
    before = os.umask(mask)
    try:
        files = [write_atomically(tmp_path / "a", b"1"), write_arrays(tmp_path / "b.npz", {"x": np.zeros(1)})]
        secret = write_atomically(tmp_path / "c", b"1", OWNER)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [rights, rights]
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_no_scratch_file(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "a", b"1")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"2")
        raise RuntimeError
    assert path.read_bytes() == b"1" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("written", [b"1", b"2"])
def test_a_shared_file_is_replaced_only_by_another_content(tmp_path: Path, written: bytes) -> None:
    # A jail grants the file that lay there, not the one that takes its place.
    path = write_atomically(tmp_path / "a", b"1", shared=True)
    first = path.stat()
    with path.open("rb"):  # else the new file could get the number of the old one
        write_atomically(path, written, shared=True)
        assert os.path.samestat(first, path.stat()) == (written == b"1")
    assert path.read_bytes() == written and list(tmp_path.iterdir()) == [path]


def test_threads_that_write_a_shared_file_at_once_leave_the_first_one_there(tmp_path: Path) -> None:
    path, all_ready = tmp_path / "a", Barrier(8)

    def write(_: int) -> int:
        with replacing(path, shared=True) as file:
            file.write(b"1")
            all_ready.wait()
        return path.stat().st_ino

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(write, range(8)))) == 1


def test_a_file_that_does_not_fit_is_named_and_leaves_the_old_one(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "results.json", b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*/results\.json'$") as error:
            write_atomically(path, bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(path))
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
