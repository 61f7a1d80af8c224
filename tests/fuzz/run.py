"""Mutate conversations and captures, and read them: only `CaptureError` may leave the reader."""

from __future__ import annotations

import io
import random
import struct
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console

from adversary.tap.decode.events import CallEnded, MessageSeen, StreamEnded
from adversary.tap.decode.observation import Observation
from adversary.tap.decode.packets.pcap import CaptureError
from adversary.tap.decode.read import Event, GrowingCapture
from adversary.tap.inspect.command import show
from adversary.tap.inspect.summary import Summary
from tests.adversary.tap import conftest as wire
from tests.fuzz.seeds import Pieces, seeds

# No small input may take longer.
MOST_SECONDS = 5.0
_SHOWN_EVERY = 200
_INTERESTING = (0, 1, 2, 5, 9, 127, 128, 255)
_WORDS = (
    *(bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\x01"),
    *(b"[/x]\x1b[2J", b"\xed\xa0\x80"),
)
_UNDER = (b"", bytes(12) + b"\x08\0", bytes(12) + b"\x81\0\0\x05\x08\0", b"\xff\x03\0\x21")


@dataclass
class Found:
    """What a number of cases did."""

    cases: int = 0
    events: Counter[str] = field(default_factory=Counter)
    # Faults inside a decoder that cost one message or direction: allowed, and worth a look.
    guarded: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def fuzz(cases: int, seed: int) -> Found:
    """Read so many mutated captures; the same seed gives the same ones."""
    draw, found = random.Random(seed), Found()
    known = list(seeds().items())
    for number in range(cases):
        name, pieces = known[number % len(known)]
        content = _capture(draw, pieces)
        started = time.process_time()
        summary = Summary()
        try:
            for event in _read(draw, content):
                _check(event, found)
                summary.add_one(event)
            if number % _SHOWN_EVERY == 0:
                show(summary, Console(file=io.StringIO(), markup=False, emoji=False, width=160))
        except CaptureError:
            found.events["refused"] += 1
        except Exception as error:
            found.failures.append(f"{name}, case {number} of seed {seed}: {type(error).__name__}: {error}")
        if time.process_time() - started > MOST_SECONDS:
            found.failures.append(f"{name}, case {number} of seed {seed}: {time.process_time() - started:.1f} s")
        found.cases += 1
    return found


def _read(draw: random.Random, content: bytes) -> Iterator[Event]:
    capture = GrowingCapture("x.pcap")
    at = draw.randrange(len(content)) if draw.random() < 0.3 else len(content)
    yield from capture.feed(content[:at])
    yield from capture.feed(content[at:])
    yield from capture.finish()


def _check(event: Event, found: Found) -> None:
    found.events[type(event).__name__] += 1
    text = ""
    if isinstance(event, CallEnded | StreamEnded):
        text = event.reason
        if "cannot be decoded: " in text:
            found.guarded[text.partition("cannot be decoded: ")[2][:80]] += 1
    elif isinstance(event, MessageSeen):
        text = event.method
    elif isinstance(event, Observation):
        text = event.name
        event.tensor.tobytes()
    if not text.isprintable():
        raise AssertionError(f"{text!r} is not escaped")


def _capture(draw: random.Random, pieces: Pieces) -> bytes:
    """Return a capture of a mutated conversation; some captures are mutated as files, too."""
    if draw.random() < 0.9:
        pieces = _mutated_pieces(draw, pieces)
    packets = wire.conversation(pieces, segment=draw.choice((40, 200, 1000, 60000)))
    if draw.random() < 0.2:
        packets = packets[draw.randrange(min(len(packets), 12)) :]
    if draw.random() < 0.1 and packets:
        packets = [packet for packet in packets if draw.random() < 0.95]
    if draw.random() < 0.1:
        draw.shuffle(packets)
    under, link = b"", 101
    if draw.random() < 0.2:
        link, under = draw.choice(((1, _UNDER[1]), (1, _UNDER[2]), (9, _UNDER[3]), (draw.randrange(300), b"")))
    content = wire.pcap([under + packet for packet in packets], link=link)
    if draw.random() < 0.25:
        content = content[:24] + _mutated(draw, content[24:])
    return content if draw.random() < 0.99 else _mutated(draw, content)


def _mutated_pieces(draw: random.Random, pieces: Pieces) -> Pieces:
    changed = list(pieces)
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(changed))
        side, data = changed[at]
        kind = draw.random()
        if kind < 0.75:
            changed[at] = side, _mutated(draw, data)
        elif kind < 0.85:
            changed.insert(draw.randrange(len(changed)), changed[at])
        elif kind < 0.95 and len(changed) > 1:
            del changed[at]
        else:
            changed[at] = 1 - side, data
    return [(side, data) for side, data in changed if data] or [(0, b"x")]


def _mutated(draw: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        if not changed:
            return b""
        at = draw.randrange(len(changed))
        kind = draw.randrange(7)
        if kind == 0:
            changed[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            changed[at] = draw.choice(_INTERESTING)
        elif kind == 2:
            changed[at : at + 4] = draw.choice(_WORDS)
        elif kind == 3:
            del changed[at : at + draw.choice((1, 4, 9, 50))]
        elif kind == 4:
            size = draw.choice((1, 4, 9, 50))
            changed[at:at] = changed[at : at + size]
        elif kind == 5:
            changed[at:at] = struct.pack(">I", draw.getrandbits(32))[: draw.choice((1, 2, 4))]
        else:
            changed[at:at] = draw.randbytes(draw.choice((1, 3, 20)))
    return bytes(changed)
