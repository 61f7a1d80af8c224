"""Sizes, limits, blocks and the one line of a computation that does not fit."""

from pathlib import Path
from typing import Any

import psutil
import pytest

from wireleak.common import memory


@pytest.mark.parametrize(
    ("text", "size"), [("4G", 4 * 2**30), ("4GiB", 4 * 2**30), ("1.5 MB", 1_572_864), ("500k", 512_000), ("7", 7)]
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert memory.parse_size(text, "limit") == size


def test_a_wrong_size_is_one_line_with_the_field_the_value_and_the_fix() -> None:
    with pytest.raises(ValueError, match=r"^limit: 'lots' is no size; give a number and a unit, such as 4G or 500M$"):
        memory.parse_size("lots", "limit")


def test_free_memory_is_the_least_of_machine_and_limit(monkeypatch: Any) -> None:
    monkeypatch.delenv(memory.LIMIT, raising=False)
    assert 0 < memory.free_memory() <= psutil.virtual_memory().total
    own = psutil.Process().memory_info().rss
    monkeypatch.setenv(memory.LIMIT, str(own + 2**30))
    assert memory.free_memory() <= 2**30 + 2**26
    monkeypatch.setenv(memory.LIMIT, "1M")
    assert memory.free_memory() == 0


def test_a_control_group_counts_without_pages_that_may_be_dropped(tmp_path: Path) -> None:
    assert memory._in_group(tmp_path) == []
    (tmp_path / "memory.current").write_text("700")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 200\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._in_group(tmp_path) == []
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory._in_group(tmp_path) == [500]


def test_too_much_is_one_line_that_names_need_and_rest(monkeypatch: Any) -> None:
    monkeypatch.setenv(memory.LIMIT, "1M")
    with pytest.raises(memory.NotEnoughMemoryError) as refusal:
        memory.check_memory("ridge", 5 * 2**30)
    line = memory.out_of_memory(refusal.value)
    assert line is not None and line.startswith(
        "ridge needs 5.0 GiB of memory and the limit WIRELEAK_MEMORY leaves 0 MiB;"
    )
    memory.check_memory("ridge", 0)


def test_only_errors_of_memory_are_told_as_such() -> None:
    assert memory.out_of_memory(MemoryError()) == "not enough memory: an allocation failed"
    assert "CUDA out of memory" in (memory.out_of_memory(RuntimeError("CUDA out of memory.\nTried to")) or "")
    assert memory.out_of_memory(RuntimeError("shapes differ")) is None


def test_blocks_cover_everything_once_within_their_size(monkeypatch: Any) -> None:
    monkeypatch.setattr(memory, "BLOCK_BYTES", 100)
    parts = list(memory.blocks(23, 20))
    assert [part.stop - part.start for part in parts] == [5, 5, 5, 5, 3]
    assert [place for part in parts for place in range(part.start, part.stop)] == list(range(23))
    assert list(memory.blocks(2, 1000)) == [slice(0, 1), slice(1, 2)] and not list(memory.blocks(0, 1))
