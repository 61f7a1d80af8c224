"""`python -m adversary inspect`: list the contents of captures."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from adversary.tap.decode.events import Transport
from adversary.tap.decode.packets.pcap import CaptureError
from adversary.tap.decode.read import events, traffic
from adversary.tap.inspect.lowbits import LinksLowBits
from adversary.tap.inspect.summary import Summary, capture_of
from wireleak.common.words import counted

_ROWS = 60
_RECORDS = 400
_PATIENCE = 2.0
# Seconds between lines where no terminal shows a bar.
_SILENCE = 5.0

Row = TypeVar("Row")


def main(captures: Sequence[Path], as_json: bool = False, quiet: bool = False) -> int:
    """List the captures on stdout, and return the exit status.

    Parameters
    ----------
    captures : sequence of Path
    as_json : bool
        Print JSON.
    quiet : bool
        Say no progress on stderr.

    Returns
    -------
    int
        0; 1 if a capture is truncated, broken or holds no packets (its readable part is listed first);
        2 if a capture cannot be read at all.
    """
    try:
        summary, each, hidden = _summarise(captures, quiet)
        content = _as_json(summary, each, hidden) if as_json else {}
    except CaptureError as error:
        print(error, file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps(content, indent=1))
    else:
        # Names that crossed the wire are no markup.
        console = Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False, highlight=False)
        show(summary, console)
        for line in hidden.lines():
            console.print(line)
    for note in summary.notes:
        print(note, file=sys.stderr)
    return 1 if summary.notes else 0


def inspect(captures: Sequence[Path | str]) -> dict[str, Any]:
    """Return the contents of captures, as `wireleak inspect --json` prints them.

    Parameters
    ----------
    captures : sequence of Path or str
        pcap, pcapng or snoop files, also compressed by gzip, bzip2 or zstd; pipes, or "-" for standard input. They are
        read together, because they complete one another.

    Returns
    -------
    dict
        Streams, calls, tensors, senders, faults and notes of all captures; "captures" has the same for each file.

    Raises
    ------
    CaptureError
        A file cannot be read as a capture.
    """
    return _as_json(*_summarise([Path(capture) for capture in captures]))


def show(summary: Summary, console: Console) -> None:
    """Print a summary as tables."""
    if not summary.streams:
        console.print("no TCP stream")
    for table in (_streams(summary), _calls(summary), _tensors(summary)):
        if table.row_count:
            console.print(table)
    for protocol, packets in sorted(summary.skipped.items(), key=lambda item: -item[1]):
        console.print(f"{counted(packets, 'packet')} skipped: {protocol}")
    for fault in summary.faults[:_ROWS]:
        console.print(f"fault: {fault}", style="yellow")
    if summary.first is not None and summary.last is not None:
        console.print(f"{_moment(summary.first)} to +{summary.last - summary.first:.3f} s")


def _moment(time: float) -> str:
    """Return a time since the epoch as a date; a broken capture may name one that no calendar has."""
    try:
        return datetime.fromtimestamp(time, UTC).isoformat(sep=" ", timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{time:.3f} s after 1970"


def _streams(summary: Summary) -> Table:
    table = _table("streams", ["stream", "client", "server", "transport"], ["up", "down", "seconds"])
    table.add_column("ended")
    for row in _first(table, list(summary.streams.values())):
        reasons = {f"{ending['reason']}" for ending in row.endings}
        seconds = f"{row.last - row.first:.3f}"
        name = Path(row.stream).name
        ends = "; ".join(sorted(reasons))
        table.add_row(name, row.client, row.server, row.transport, _size(row.up), _size(row.down), seconds, ends)
    return table


def _calls(summary: Summary) -> Table:
    columns = ["calls", "messages up", "bytes up", "messages down", "bytes down"]
    table = _table("calls", ["method"], columns)
    for row in _first(table, list(summary.methods.values())):
        up, down = row.up, row.down
        counts = (row.calls, up.messages, _size(up.bytes), down.messages, _size(down.bytes))
        name = row.method or "(unknown: its request was not captured)"
        table.add_row(f"{name} (inferred)" if row.inferred else name, *map(str, counts))
    return table


def _tensors(summary: Summary) -> Table:
    table = _table("tensors", ["kind", "layer", "shape", "dtype"], ["count", "bytes"])
    for row in _first(table, list(summary.tensors.values())):
        shape = "×".join(map(str, row.shape)) or "scalar"
        kind = f"{row.kind} (inferred)" if row.inferred else row.kind
        table.add_row(kind, row.name, shape, row.dtype, str(row.count), _size(row.bytes))
    return table


def _table(title: str, left: list[str], right: list[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right")
    return table


def _first(table: Table, rows: list[Row]) -> list[Row]:
    """Return the rows that fit on a page; if there are more, the caption says so."""
    if len(rows) > _ROWS:
        table.caption = f"{len(rows) - _ROWS} more rows, see --json"
    return rows[:_ROWS]


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def _as_json(summary: Summary, each: dict[Path, Summary], hidden: LinksLowBits) -> dict[str, Any]:
    parts = [_part(path, part, hidden) for path, part in each.items()]
    return summary.as_dict() | {"low_bits": hidden.findings(), "captures": parts}


def _part(path: Path, summary: Summary, low_bits: LinksLowBits) -> dict[str, Any]:
    """Return the JSON of one capture; for a TLS link with its first records, as it shows nothing else.

    A pipe is read only once, so it has no list of records.
    """
    encrypted = any(row.transport == Transport.TLS for row in summary.streams.values())
    records = islice(traffic([path]), _RECORDS) if encrypted and path.is_file() else ()
    start = summary.first or 0.0
    bursts = [{"time": record.time - start, "bytes": record.bytes, "up": record.up} for record in records]
    own = {"low_bits": low_bits.findings(str(path)), "bursts": bursts}
    return {"capture": str(path)} | summary.as_dict() | own


def _summarise(captures: Sequence[Path], quiet: bool = False) -> tuple[Summary, dict[Path, Summary], LinksLowBits]:
    """Read the captures together; count all and each. On stderr a progress bar or, without a terminal, lines appear."""
    total = sum(path.stat().st_size for path in captures if path.is_file()) or None
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("reading", total=total)
    started = said = time.monotonic()

    def progress(count: int) -> None:
        nonlocal said
        bar.advance(task, count)
        now = time.monotonic()
        if quiet or bar.live.is_started:
            return
        if bar.console.is_terminal and now - started > _PATIENCE:
            bar.start()
        elif not bar.console.is_terminal and now - said > _SILENCE:
            said = now
            of = "" if total is None else f" of {total / 1e6:.0f}"
            print(f"[{now - started:.0f} s] reading: {bar.tasks[0].completed / 1e6:.0f}{of} MB", file=sys.stderr)

    try:
        whole, each = Summary(), {path: Summary() for path in captures}
        parts, hidden = {str(path): part for path, part in each.items()}, LinksLowBits()
        if len(each) == 1:
            # A single capture is counted once.
            each, parts = dict.fromkeys(captures, whole), {}
        for event in events(captures, progress=progress):
            whole.add_one(event)
            if parts:
                parts[capture_of(event)].add_one(event)
            hidden.add_one(event)
        return whole, each, hidden
    finally:
        if bar.live.is_started:
            bar.stop()
