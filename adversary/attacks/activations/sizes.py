"""Sizes: a probe from the sizes and times of an encrypted link to one private attribute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from adversary.attacks.activations.probe_attack import ProbeAttack
from adversary.attacks.harness.activations import Activations
from adversary.attacks.harness.knowledge import Array
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import SIZES_AND_TIMES, Knows, ThreatModel, Vantage
from wireleak.common.targets.attribute import PrivateAttribute
from wireleak.common.words import counted

# A reader of captures is imported where it is used: listing attacks costs no import of it.
if TYPE_CHECKING:
    from adversary.tap.decode.traffic import SentBytes


@register
class Sizes(ProbeAttack):
    """Infer a private attribute of a victim's input from only the sizes and times of its traffic.

    An eavesdropper still sees these under TLS. A network sends the same number of bytes for every input, so the
    expected score is chance; a higher score is a leak of the implementation.

    References
    ----------
    Dyer, Coull, Ristenpart, Shrimpton, "Peek-a-Boo, I Still See You", S&P 2012: the features.
    """

    name = "sizes"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY), sees=(SIZES_AND_TIMES,), knows=(Knows.SURROGATE, Knows.QUERIES)
    )
    target = PrivateAttribute

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
