"""Sizes: a probe from the sizes and times of an encrypted link to one private attribute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from adversary.attacks.activations.probe_attack import ProbeAttack
from adversary.attacks.harness.activation_attack import ServedActivations
from adversary.attacks.harness.activations import Activations
from adversary.attacks.harness.attack import unread
from adversary.attacks.harness.config import AttackConfig
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import SIZES_AND_TIMES, Knows, ThreatModel, Vantage
from wireleak.common.reads import CONNECTION, DEVICE, MESSAGE, Read
from wireleak.common.targets.attribute import PrivateAttribute
from wireleak.common.words import counted

# A reader of captures is imported where it is used: listing attacks costs no import of it.
if TYPE_CHECKING:
    from adversary.tap.decode.traffic import SentBytes

# Parts of the expected bytes under which messages are missing: of connections that were captured whole, and of others.
# Texts differ in size, and the protocol's own records in number.
_HALF, _LESS = 0.5, 0.9


@register
class Sizes(ProbeAttack):
    """Infer a private attribute of a victim's input from only the sizes and times of its traffic.

    An eavesdropper still sees these under TLS. A network sends the same number of bytes for every input, so the
    expected score is chance; a higher score is a leak of the implementation.

    An encrypted link does not show how many inputs crossed it. So the attacker compares its bytes with those of its own
    inputs, and checks that each connection was captured from start to end.

    References
    ----------
    Dyer, Coull, Ristenpart, Shrimpton, "Peek-a-Boo, I Still See You", S&P 2012: the features.
    """

    name = "sizes"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY), sees=(SIZES_AND_TIMES,), knows=(Knows.SURROGATE, Knows.QUERIES)
    )
    target = PrivateAttribute

    @classmethod
    def observe(cls, settings: Any, config: AttackConfig, known: Knowledge) -> ServedActivations:
        """Read the captures, and find out whether they are whole."""
        from adversary.tap.decode.read import connections

        seen, count, captures = super().observe(settings, config, known), config.victims, config.captures
        own, theirs = connections(captures.device), connections(captures.victims)
        there = round(len(known) * sent_bytes(captures.victims) / max(1, sent_bytes(captures.device)))
        there = there if there < (_HALF if theirs.whole == theirs.all else _LESS) * count else count
        seen_of_device = Read(CONNECTION, own.whole, own.all, DEVICE)
        reads = (Read(MESSAGE, there, count), Read(CONNECTION, theirs.whole, theirs.all), seen_of_device)
        if 0 < there < count:
            asked = cls(settings, config.seed).read(captures.victims, there)
            # The missing messages are the first or the last; where both ends are missing, no place is known.
            placed = 0 if theirs.late and theirs.cut else len(asked.rows)
            places = asked.places[:placed] + (count - there if theirs.late else 0)
            asked, missed = replace(asked, rows=asked.rows[:placed]), unread(places, count)
            seen = replace(seen, asked=asked, places=places, guessed=placed, groups=placed, unread=missed)
        missing = "a connection was not captured whole, and sizes do not show how many of its messages are missing"
        unknown = there == count and not all(read.complete for read in reads)
        return replace(seen, reads=reads, notes=(*seen.notes, missing) if unknown else seen.notes)

    def read(self, paths: Sequence[Path], count: int) -> Activations:
        """Return the features (count, 5) of each inference, see `features`; `messages` separates the inferences."""
        from adversary.tap.decode.traffic import traffic

        streams: dict[str, list[SentBytes]] = {}
        for record in traffic(paths):
            streams.setdefault(record.stream, []).append(record)
        records = [record for stream in streams.values() for record in stream]
        groups = messages([record.bytes for record in records if record.up], count)
        if not len(groups):
            return Activations(
                np.zeros(0, np.float32), np.arange(0), notes=(f"0 records seen in {counted(len(paths), 'capture')}",)
            )
        kinds = sorted({str(record.transport) for record in records})
        used = sum(record.bytes for record in records)
        return Activations(
            features(records, groups), np.arange(len(groups)), None, len(records), used, (f"link: {', '.join(kinds)}",)
        )


def sent_bytes(paths: Sequence[Path]) -> int:
    """Return the bytes that clients sent in messages, without the small records of the protocol."""
    from adversary.tap.decode.traffic import traffic

    sizes = np.array([record.bytes for record in traffic(paths) if record.up], np.int64)
    return int(sizes[sizes >= np.median(sizes) / 2].sum()) if len(sizes) else 0


def messages(sizes: Sequence[int], count: int) -> npt.NDArray[np.int64]:
    """Return the first and last record (count, 2) of each of `count` equally long messages.

    Records under half the median size belong to the protocol. Surplus records came before the first message (the
    connection's preface). When a record holds several messages, messages are found by their share of the bytes.
    """
    if not len(sizes):
        return np.zeros((0, 2), np.int64)
    large = np.flatnonzero(np.asarray(sizes) >= np.median(sizes) / 2)
    each = len(large) // count
    if each:
        ends = large[len(large) - each * count :].reshape(count, each)
        return ends[:, [0, -1]]
    total = np.cumsum(np.asarray(sizes)[large])
    found = large[np.searchsorted(total, total[-1] * (np.arange(1, count + 1) - 0.5) / count)]
    return np.stack([found, found], 1)


def features(records: Sequence[SentBytes], groups: npt.NDArray[np.int64]) -> Array:
    """Return bytes, duration, gap to the message before, delay and bytes of the answer: float32 (n, 5), log times.

    Parameters
    ----------
    records : sequence of SentBytes
        Both directions, in order of time within a stream.
    groups : numpy.ndarray
        Int64 (n, 2) from `messages`, counting only the records from client to server.
    """
    up = [record for record in records if record.up]
    down = [record for record in records if not record.up]
    sent = np.array([record.time for record in up])
    size = np.concatenate([[0], np.cumsum([record.bytes for record in up])])
    first, last = groups[:, 0], groups[:, 1]
    before = np.concatenate([sent[first[:1]], sent[last[:-1]]])
    columns = [size[last + 1] - size[first], sent[last] - sent[first], sent[first] - before]
    if down:
        times, lengths = np.array([record.time for record in down]), np.array([record.bytes for record in down])
        answer = np.minimum(np.searchsorted(times, sent[last]), len(down) - 1)
        columns += [times[answer] - sent[last], lengths[answer]]
    else:
        columns += [np.zeros(len(groups)), np.zeros(len(groups))]
    for time in (1, 2, 3):
        columns[time] = np.log(1e-6 + np.maximum(columns[time], 0))
    return np.stack(columns, 1).astype(np.float32)
