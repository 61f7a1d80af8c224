"""The content of a capture, as the adversary reads it, and whether an attack can use it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from wireleak.common.traffic import Traffic
from wireleak.common.words import counted
from wireleak.lab.launch.endings import telling_line
from wireleak.lab.launch.jail import Jail
from wireleak.lab.launch.processes import Launcher, LaunchError
from wireleak.lab.run.cell import UNTRAINED
from wireleak.lab.run.layout import CellFolder, link_of
from wireleak.lab.run.results import Link
from wireleak.lab.study.schema import StudyError

_SECONDS = 3600.0
_START = "{\n"
_PREDICT = "/wireleak.v1.SplitHead/Predict"
# The tensors without which an attack on this traffic reads nothing, and in which traffic else they are.
_READS = {
    Traffic.SERVING: "activation",
    Traffic.SPLIT_TRAINING: "activation-gradient",
    Traffic.FEDERATED_TRAINING: "model-update",
}
_STREAMS = {
    "activation-gradient": "the stream of a split training",
    "label": "the stream of a split training",
    "model-update": "Flower's link of a federated training",
    "global-model": "Flower's link of a federated training",
    "activation": "the stream of a device that asks for predictions",
    "prediction": "the stream of a device that asks for predictions",
}
_EXAMPLES = {
    Traffic.SERVING: "the capture of a serving device, such as serve-victim.pcap",
    Traffic.SPLIT_TRAINING: "the capture of a client in split training, such as train-client-0.pcap",
    Traffic.FEDERATED_TRAINING: "a capture of Flower's link, such as fleet-client-0.pcap",
}


@dataclass(frozen=True)
class Content:
    """What the adversary decodes from a capture.

    Parameters
    ----------
    path : Path
    seen : dict
        The JSON of `wireleak inspect`.
    """

    path: Path
    seen: dict[str, Any]

    @property
    def kinds(self) -> dict[str, int]:
        """Number of tensors of each kind."""
        kinds: dict[str, int] = self.seen["kinds"]
        return kinds

    @property
    def tls(self) -> bool:
        """Whether any stream is encrypted."""
        return any(stream["transport"] == "TLS" for stream in self.seen["streams"])

    @property
    def link(self) -> Link:
        """The link as the results name it."""
        return "tls" if self.tls else "plaintext"

    @property
    def late(self) -> bool:
        """Whether the start of a connection is missing."""
        return any(stream["late"] for stream in self.seen["streams"])

    @property
    def clients(self) -> set[str]:
        """The addresses that opened a connection."""
        return {stream["client"] for stream in self.seen["streams"]}

    @cached_property
    def activations(self) -> int:
        """Number of inputs that were sent, by their activations of the shape that comes first.

        A message that cannot be decoded counts as the first one that can.
        """
        found = [one for one in self.seen["tensors"] if one["kind"] == "activation" and one["shape"]]
        if not found:
            return 0
        sent = sum(row["up"]["messages"] for row in self.seen["calls"] if row["method"] == _PREDICT)
        (each, *shape), broken = found[0]["shape"], max(0, sent - self.kinds["activation"])
        whole = sum(one["count"] * one["shape"][0] for one in found if one["shape"][1:] == shape)
        return int(broken * each + whole)

    @property
    def said(self) -> str:
        """The content in a few words."""
        parts = [counted(count, kind) for kind, count in self.kinds.items()]
        if not self.kinds:
            carried = sorted({stream["transport"] for stream in self.seen["streams"]})
            parts = [f"{counted(len(self.seen['streams']), 'stream')} of {' and '.join(carried)}"] if carried else []
        parts += [f"{counted(packets, 'packet')} skipped: {why}" for why, packets in self.seen["skipped"].items()]
        return ", ".join(parts) or "no connection"

    def check(self, attack: str, traffic: Traffic, sees_tensors: bool) -> None:
        """Check that an attack finds in the capture what it reads.

        Raises
        ------
        StudyError
            One line: the link is encrypted, the capture is of another stream, or nothing was decoded.
        """
        name, wanted = self.path.name, _READS[traffic]
        if not sees_tensors:
            if not self.seen["streams"]:
                raise StudyError(f"CAPTURE: {name} holds {self.said}; nothing to read")
            return
        strangers = self._strangers(traffic)
        if wanted in self.kinds and not strangers:
            return
        if self.kinds:
            held = (strangers or list(self.kinds))[0]
            raise StudyError(
                f"CAPTURE: {name} is {_STREAMS[held]} ({self.said}), and {attack} reads {wanted}s; "
                f"give {_EXAMPLES[traffic]}, or an attack on this stream (`wireleak plugins attacks`)"
            )
        if self.tls:
            raise StudyError(f"CAPTURE: {name} is TLS: nothing to read; only the attack sizes works on sizes and times")
        raise StudyError(
            f"CAPTURE: nothing was decoded from {name}: {self.said}; `wireleak inspect {name}` lists what is there"
        )

    def _strangers(self, traffic: Traffic) -> list[str]:
        """Return kinds of tensors that show another stream than the one that is attacked."""
        training: list[str] = [kind for kind in ("activation-gradient", "label") if kind in self.kinds]
        return training if traffic is Traffic.SERVING else []


def read(capture: Path, launcher: Launcher) -> Content:
    """Have the adversary read a capture.

    Raises
    ------
    StudyError
        The file is no capture.
    """
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "content.json"
        argv = ["-m", "adversary", "inspect", str(capture), "--json"]
        jail = Jail((capture,), (Path(scratch),))
        try:
            launcher.finish(launcher.start("inspect", argv, output, essential=False, jail=jail), _SECONDS)
        except LaunchError:
            # A capture that is cut short ends the process with status 1, after its readable part was listed.
            if not (output.is_file() and _START in output.read_text()):
                raise StudyError(f"CAPTURE: {telling_line(output)}") from None
        return Content(capture, _parsed(output.read_text()))


def _parsed(printed: str) -> dict[str, Any]:
    """Return the JSON among the lines that a process printed: remarks on standard error come before or after it."""
    content: dict[str, Any] = json.JSONDecoder().raw_decode(printed[printed.index(_START) :])[0]
    return content


def check_link(capture: Path, cell: CellFolder, devices: Collection[str], content: Content) -> bool:
    """Return whether a capture in a run's folder is of the victims' link, whose ground truth is known.

    A file of another name counts if its connections are those that the run recorded on that link.

    Raises
    ------
    StudyError
        It is another link's of this run.
    """
    name, victims = link_of(capture).removeprefix(UNTRAINED), {f"serve-{device}" for device in ("victim", *devices)}
    if name in victims:
        return True
    recorded = {link_of(Path(one["capture"])): one for one in _recorded(cell)}
    if name in recorded:
        raise StudyError(
            f"CAPTURE: {capture.name} is not the victims' link, and the ground truth is theirs; give serve-victim.pcap"
        )
    clients = {stream["client"] for link, one in recorded.items() if link in victims for stream in one["streams"]}
    return bool(content.clients) and content.clients <= clients


def _recorded(cell: CellFolder) -> list[dict[str, Any]]:
    if not cell.inspected.is_file():
        return []
    captures: list[dict[str, Any]] = json.loads(cell.inspected.read_text())["captures"]
    return captures
