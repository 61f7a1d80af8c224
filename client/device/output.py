"""Print predictions, once and in order, and the totals of a stream."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

from client.device.inputs.item import Floats
from client.device.streaming.outbox import Message
from client.device.streaming.stream import Totals


def say(line: str) -> None:
    """Print a line for the user on standard error."""
    print(f"wireleak-device: {line}", file=sys.stderr, flush=True)


class Printer:
    """Prints answers on standard output, a line each.

    Parameters
    ----------
    classes : sequence of str
    as_json : bool
        JSON lines, with all probabilities.
    """

    def __init__(self, classes: Sequence[str], as_json: bool) -> None:
        self._classes = classes
        self._json = as_json
        self._began = time.perf_counter()

    def answer(self, message: Message, probabilities: Floats) -> None:
        """Print the predictions of one message."""
        for offset, (name, row) in enumerate(zip(message.names, probabilities, strict=True)):
            number, best = message.first + offset, int(row.argmax())
            if self._json:
                record = {"input": number, "name": name, "class": self._classes[best], "prediction": row.tolist()}
                print(json.dumps(record, ensure_ascii=False))
            else:
                print(f"{number}\t{name}\t{self._classes[best]}\t{row[best]:.3f}")
        sys.stdout.flush()

    def totals(self, totals: Totals) -> None:
        """Print what the stream cost: on standard output as JSON, else on standard error."""
        seconds = time.perf_counter() - self._began
        if self._json:
            print(json.dumps({"totals": vars(totals) | {"seconds": seconds}}), flush=True)
            return
        encoding = 1000 * totals.encode_seconds / max(totals.inputs, 1)
        say(
            f"inputs: {totals.inputs}; messages: {totals.messages}; sent: {_size(totals.sent_bytes)}; "
            f"received: {_size(totals.received_bytes)}; time: {seconds:.1f} s ({totals.inputs / seconds:.1f} inputs/s, "
            f"{_size(totals.sent_bytes / seconds)}/s); encoder: {encoding:.2f} ms an input"
        )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
