"""Have the adversary read captures: summaries of a cell's, and the tensors of one."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

from wireleak.lab.launch.jail import Jail
from wireleak.lab.launch.processes import Launcher, LaunchError
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.layout import link_of
from wireleak.lab.run.results import Burst, Call, Link, TensorCount, Wire

# Of a pcap file without packets: its header.
_EMPTY = 24


def inspect_captures(cell: Cell, launcher: Launcher) -> list[Wire]:
    """Return the adversary's summary of each capture; it is made once, because some captures are deleted later.

    A link that nobody used, as that of a client that was never asked to train, is listed without the adversary.
    """
    listed, captures = cell.inspected, [path for path in cell.captures() if path.stat().st_size > _EMPTY]
    if not cell.variant.linked:
        return []
    if not captures:
        raise LaunchError(f"{cell.name}: nothing crossed a link; see {cell.log('tap')}")
    if not listed.exists():
        output = listed.with_suffix(".partial")
        output.unlink(missing_ok=True)
        argv = ["-m", "adversary", "inspect", *map(str, captures), "--json", "--quiet"]
        with tempfile.TemporaryDirectory() as scratch:
            jail = Jail(tuple(captures), (Path(scratch),))
            launcher.finish(launcher.start(f"{cell.name}-inspect", argv, output, essential=False, jail=jail), 600)
        output.replace(listed)
    where = cell.variant.name, cell.seed, cell.variant.seen_as
    wires = [wire_of(seen, *where) for seen in json.loads(listed.read_text())["captures"]]
    unused = sorted({link_of(path) for path in cell.captures()} - {wire.link_name for wire in wires})
    return wires + [_unused(cell, link) for link in unused]


def _unused(cell: Cell, link: str) -> Wire:
    about = {"variant": cell.variant.name, "seed": cell.seed, "link_name": link, "link": cell.variant.seen_as}
    return Wire(**about, notes=["nothing crossed this link"])


def extract(launcher: Launcher, name: str, kind: str, capture: Path, output: Path, log: Path, seconds: float) -> None:
    """Write the tensors of a capture to a file, as the adversary decodes them.

    Parameters
    ----------
    launcher : Launcher
    name : str
        Of the process.
    kind : str
        Kind of tensor, and the array's name in the file.
    capture, output, log : Path
        The process may read the capture, and write the output's folder.
    seconds : float
        Time limit.

    Raises
    ------
    LaunchError
        The capture cannot be read, or reading took too long.
    """
    argv = ["-m", "adversary", "extract", "--kind", kind, "--output", str(output), str(capture)]
    jail = Jail((capture,), (output.parent,))
    launcher.finish(launcher.start(name, argv, log, essential=False, jail=jail), seconds)


def wire_of(seen: dict[str, Any], variant: str, seed: int, link: Link) -> Wire:
    """Return the results' summary of one capture from the adversary's; `link` says whether the link is encrypted."""
    streams = seen["streams"]
    return Wire(
        variant=variant,
        seed=seed,
        link_name=link_of(Path(seen["capture"])),
        link=link,
        endpoints=[f"{stream['client']} → {stream['server']}" for stream in streams],
        calls=[
            Call(method=call["method"], count=call["calls"], bytes=call["up"]["bytes"] + call["down"]["bytes"])
            for call in seen["calls"]
        ],
        kinds=_kinds(seen["tensors"]),
        bytes_up=sum(stream["up"] for stream in streams),
        bytes_down=sum(stream["down"] for stream in streams),
        first=seen["first"] or math.nan,
        last=seen["last"] or math.nan,
        tls=any(stream["transport"] == "TLS" for stream in streams),
        bursts=[Burst(**burst) for burst in seen["bursts"]],
        notes=seen["faults"]
        + seen["notes"]
        + [f"low bits: {reason}" for one in seen.get("low_bits", ()) for reason in one["reasons"]],
    )


def _kinds(tensors: list[dict[str, Any]]) -> list[TensorCount]:
    """Return one count for each kind of tensor, over all layers."""
    kinds: dict[str, TensorCount] = {}
    for seen in tensors:
        kind = kinds.setdefault(seen["kind"], TensorCount(kind=seen["kind"], count=0, bytes=0))
        kind.count += seen["count"]
        kind.bytes += seen["bytes"]
        if seen["shape"] not in kind.shapes:
            kind.shapes.append(seen["shape"])
    return list(kinds.values())
