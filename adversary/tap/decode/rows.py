"""Number the examples that a link carried, also where messages between them cannot be decoded."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from adversary.tap.decode import splithead
from adversary.tap.decode.events import CallEnded, MessageSeen, StreamEnded, StreamSeen
from adversary.tap.decode.observation import Kind, Observation
from adversary.tap.decode.read import Event, events, warn
from adversary.tap.decode.tcp import CAPTURE_ENDS

Ints = npt.NDArray[np.int64]
_FEDERATED = (Kind.MODEL_UPDATE, Kind.GLOBAL_MODEL)
_UNKNOWN = -1


class Rows:
    """The row of each SplitHead message's first example, in the order of captures, calls and messages.

    All tensors of one number in a call are of the same examples. So a message that cannot be decoded takes as many rows
    as the other side's message of its number, or as the messages of its size.
    """

    def __init__(self) -> None:
        self._calls: dict[str, _Call] = {}
        self._late: set[str] = set()
        self._last: dict[str, str] = {}  # the last call of each stream

    def observe(self, path: Path) -> Iterator[Observation]:
        """Yield the observations in a capture, and number them; what is lost or broken is logged.

        All captures are read with the same object, in order.
        """
        for event in events([path]):
            self.add(event)
            if isinstance(event, Observation):
                yield event
            else:
                warn(event)

    def add(self, event: Event) -> None:
        """Take an event of the reader."""
        if isinstance(event, Observation):
            if event.kind not in _FEDERATED:
                examples = len(event.tensor) if event.tensor.ndim else _UNKNOWN
                _put(self._call(event.call).examples, event.sequence, examples)
        elif isinstance(event, MessageSeen):
            if splithead.decodes(event.method):
                _put(self._call(event.call).sizes[event.client], event.sequence, event.size)
        elif isinstance(event, CallEnded):
            if splithead.decodes(event.method):
                self._call(event.call).open = True
        elif isinstance(event, StreamSeen):
            if event.late:
                self._late.add(event.stream)
        elif isinstance(event, StreamEnded):
            last = self._last.get(event.stream)
            if last is not None and (event.broken or event.reason == CAPTURE_ENDS):
                self._calls[last].open = True

    def skip(self, call: str, number: int) -> None:
        """Let a message take no row, because its tensor is of something else."""
        _put(self._calls[call].examples, number, 0)

    @property
    def examples(self) -> int:
        """Number of examples of all messages, as far as it is known."""
        return sum(int(np.maximum(call.counts(), 0).sum()) for call in self._calls.values())

    def number(self, count: int) -> dict[str, Ints]:
        """Return for each call the row of each message's first example; -1 where it is not known.

        Parameters
        ----------
        count : int
            Examples that were sent. If fewer are there, and it is not known where the others are missing, messages
            after the first gap have no row.
        """
        gaps, at = set(), 0
        rows: dict[str, Ints] = {}
        for name, call in self._calls.items():
            examples = call.counts()
            rows[name] = first = at + np.cumsum(np.maximum(examples, 0)) - np.maximum(examples, 0)
            gaps |= {at} if name.rpartition("/")[0] in self._late else set()
            gaps |= set(first[examples == _UNKNOWN].tolist())
            at += int(np.maximum(examples, 0).sum())
            gaps |= {at} if call.open else set()
        missing, gap = count - at, min(gaps, default=at)
        if missing > 0 and gap < at:
            for first in rows.values():
                first[first >= gap] = first[first >= gap] + missing if len(gaps) == 1 else -1
        return rows

    def _call(self, name: str) -> _Call:
        self._last[name.rpartition("/")[0]] = name
        return self._calls.setdefault(name, _Call())


@dataclass
class _Call:
    """The messages of one call, by number: their sizes in each direction, and their examples where they are known.

    `open`: messages may be missing at its end.
    """

    sizes: dict[bool, array[int]] = field(default_factory=lambda: {True: array("q"), False: array("q")})
    examples: array[int] = field(default_factory=lambda: array("q"))
    open: bool = False

    def counts(self) -> Ints:
        """Return the number of examples of each message."""
        counts = np.full(max(len(self.examples), *map(len, self.sizes.values())), _UNKNOWN, np.int64)
        counts[: len(self.examples)] = self.examples
        known = np.unique(counts[counts > 0])
        usual = int(known[0]) if len(known) == 1 else _UNKNOWN
        of_size = {
            (client, size): examples
            for client, sizes in self.sizes.items()
            for size, examples in zip(sizes, self.examples, strict=False)
            if size != _UNKNOWN and examples != _UNKNOWN
        }
        for number in np.flatnonzero(counts == _UNKNOWN).tolist():
            sizes = [(client, sent[number]) for client, sent in self.sizes.items() if number < len(sent)]
            counts[number] = next((of_size[size] for size in sizes if size in of_size), usual)
        return counts


def _put(numbers: array[int], place: int, value: int) -> None:
    numbers.extend([_UNKNOWN] * (place + 1 - len(numbers)))
    if value != _UNKNOWN:
        numbers[place] = value
