"""The queue of unanswered messages: in order, on disk, full, in use, and of one encoder."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.device.model.errors import QueueError
from client.device.streaming.outbox import Outbox


def test_messages_wait_in_order_until_they_are_answered(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "q", "e")
    first, second = (outbox.put(names, b"x" * 9, remember=False) for names in (["a", "b"], ["c"]))
    assert (first.first, second.first) == (0, 2)
    assert (list(outbox.waiting()), outbox.unanswered()) == ([first, second], 0)
    outbox.answered(first)
    assert (list(outbox.waiting()), outbox.unanswered()) == ([second], 2)
    outbox.close()
    again = Outbox(tmp_path / "q", "e")
    assert list(again.waiting()) == [second]
    assert again.put(["d"], b"", remember=False).first == 3
    assert ((tmp_path / "q").stat().st_mode & 0o777) == 0o700


def test_inputs_are_remembered_until_all_are_answered(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "q", "e")
    outbox.answered(outbox.put(["a"], b"x", remember=True))
    outbox.put(["live"], b"x", remember=False)
    assert (outbox.took("a"), outbox.took("live"), outbox.took("b")) == (True, False, False)
    outbox.all_answered()
    assert not outbox.took("a")


def test_answered_activations_leave_the_disk(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "q", "e")
    outbox.answered(outbox.put(["a"], b"PRIVATE ACTIVATION" * 300, remember=False))
    outbox.close()
    assert all(b"PRIVATE" not in path.read_bytes() for path in (tmp_path / "q").iterdir())


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "q", "e")
    kept = outbox.put(["a"], b"x" * 9000, remember=False)
    # What SQLite reports for a full disk too.
    outbox._database.execute("PRAGMA max_page_count = 12")
    with pytest.raises(QueueError, match=r"--queue: .*/q: the disk is full; free some space and start again"):
        outbox.put(["b"], b"x" * 90_000, remember=False)
    assert list(outbox.waiting()) == [kept]
    outbox.answered(kept)
    assert outbox.put(["b"], b"x", remember=False).first == 1


def test_a_queue_of_another_encoder_or_in_use_is_refused(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "q", "e")
    with pytest.raises(QueueError, match="another device uses it; name another folder"):
        Outbox(tmp_path / "q", "e")
    outbox.close()
    with pytest.raises(QueueError, match="holds inputs of another encoder"):
        Outbox(tmp_path / "q", "other")


def test_a_folder_that_cannot_be_a_queue_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(QueueError, match=r"--queue: .*file: "):
        Outbox(tmp_path / "file", "e")
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "queue.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(QueueError, match=r"queue.sqlite is no queue"):
        Outbox(tmp_path / "q", "e")


def test_a_queue_in_memory_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outbox = Outbox(None, "e")
    assert list(outbox.waiting()) == []
    outbox.put(["a"], b"x", remember=False)
    assert list(tmp_path.iterdir()) == []
