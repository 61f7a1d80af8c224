"""Arrays on disk, and files with a second name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wireleak.common.files import link_or_copy, write_arrays


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
