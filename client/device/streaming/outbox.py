"""The queue of messages that the head has not answered: in memory, or in a folder that outlives the process."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.device.model.errors import QueueError

_FILE, _RESERVE = "queue.sqlite", "reserve"
# Room for the answers to messages that are on their way when the disk becomes full.
_RESERVED_BYTES = 256 << 10
# One device uses a queue, answered activations are overwritten, and a commit is one write to the disk.
_SETTINGS = (
    "locking_mode = EXCLUSIVE",
    "secure_delete = ON",
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 100",
)
_TABLES = (
    "CREATE TABLE IF NOT EXISTS messages (first INTEGER PRIMARY KEY, names TEXT, tensor BLOB)",
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value)",
    "CREATE TABLE IF NOT EXISTS taken (name TEXT PRIMARY KEY)",
    # Numbers of the next input to be read, and of the first without an answer.
    "INSERT OR IGNORE INTO facts VALUES ('next', 0), ('unanswered', 0)",
)


@dataclass(frozen=True)
class Message:
    """One batch of activations, as it is sent however often the link breaks.

    Parameters
    ----------
    first : int
        Number of its first input.
    names : tuple of str
        Names of its inputs, in order.
    tensor : bytes
        The encoded activations. Random transforms were applied once: fresh noise would spend privacy again.
    """

    first: int
    names: tuple[str, ...]
    tensor: bytes


class Outbox:
    """Messages from the moment they are made until they are answered, in order, each committed before it is sent.

    Parameters
    ----------
    folder : Path or None
        Folder of the queue, made if missing; None keeps it in memory.
    encoder : str
        Identity of the encoder. A queue holds messages of one encoder only.

    Raises
    ------
    QueueError
        The folder cannot be used, is in use, or belongs to another encoder.
    """

    def __init__(self, folder: Path | None, encoder: str) -> None:
        self.folder = folder
        with self._readable():
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._database = sqlite3.connect(":memory:" if folder is None else folder / _FILE, timeout=0)
            for setting in _SETTINGS:
                self._database.execute(f"PRAGMA {setting}")
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                for statement in _TABLES:
                    self._database.execute(statement)
                self._database.execute("INSERT OR IGNORE INTO facts VALUES ('encoder', ?)", (encoder,))
            if folder is not None:
                (folder / _RESERVE).write_bytes(bytes(_RESERVED_BYTES))
        if self._fact("encoder") != encoder:
            self._database.close()
            raise QueueError(
                f"--queue: {folder} holds inputs of another encoder; send them with that one, or name another folder"
            )

    def close(self) -> None:
        """Release the folder."""
        self._database.close()

    def put(self, names: Sequence[str], tensor: bytes, *, remember: bool) -> Message:
        """Store a message behind all others, and return it with the numbers of its inputs.

        With `remember`, a start that goes on after an interruption skips its inputs, until `all_answered`.
        """
        message = Message(int(self._fact("next")), tuple(names), tensor)
        with self._readable(), self._database:
            row = (message.first, json.dumps(names), tensor)
            self._database.execute("INSERT INTO messages VALUES (?, ?, ?)", row)
            self._set("next", message.first + len(names))
            if remember:
                self._database.executemany("INSERT OR IGNORE INTO taken VALUES (?)", [(name,) for name in names])
        return message

    def answered(self, message: Message) -> None:
        """Drop a message that was answered, which is the first."""
        after = message.first + len(message.names)
        with self._readable(), self._database:
            self._set("unanswered", after)
        # On a full disk the record above takes the reserve's place, and a later answer frees the message's.
        with contextlib.suppress(sqlite3.Error), self._database:
            self._database.execute("DELETE FROM messages WHERE first < ?", (after,))

    def waiting(self) -> Iterator[Message]:
        """Yield the messages that were not answered yet, in order."""
        with self._readable():
            chosen = "SELECT first FROM messages WHERE first >= ? ORDER BY first"
            numbers = [row[0] for row in self._database.execute(chosen, (self.unanswered(),))]
            for number in numbers:
                row = self._database.execute("SELECT * FROM messages WHERE first = ?", (number,)).fetchone()
                yield Message(row[0], tuple(json.loads(row[1])), row[2])

    def unanswered(self) -> int:
        """Return the number of the first input without an answer: one that waits, or else the next to be read."""
        return int(self._fact("unanswered"))

    def took(self, name: str) -> bool:
        """Whether an earlier start that was interrupted has queued this input already."""
        with self._readable():
            row = self._database.execute("SELECT 1 FROM taken WHERE name = ?", (name,)).fetchone()
        return row is not None

    def all_answered(self) -> None:
        """Record that all inputs were read and answered; the next start takes them from the first again."""
        with self._readable(), self._database:
            self._database.execute("DELETE FROM taken")

    def _fact(self, name: str) -> Any:
        with self._readable():
            row: tuple[Any] = self._database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return row[0]

    def _set(self, name: str, value: int) -> None:
        self._database.execute("UPDATE facts SET value = ? WHERE name = ?", (value, name))

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Turn an error of the database or of the disk into one line."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            reason = str(error)
            if "locked" in reason:
                reason = "another device uses it; name another folder"
            elif "full" in reason or "No space" in reason:
                if self.folder is not None:
                    (self.folder / _RESERVE).unlink(missing_ok=True)
                reason = "the disk is full; free some space and start again: what was queued is kept"
            elif "not a database" in reason or "malformed" in reason:
                reason = f"{_FILE} is no queue ({reason}); name another folder"
            raise QueueError(f"--queue: {self.folder or 'in memory'}: {reason}") from error
