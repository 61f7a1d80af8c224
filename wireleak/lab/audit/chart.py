"""The chart of an audit: leakage of each cut against the bytes that it sends."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from wireleak.lab.audit.rows import CutRow
from wireleak.lab.report.charts.cuts import LEAST, Cut, Series, leakage
from wireleak.lab.report.figures import Drawing
from wireleak.lab.report.formatting import size

_MEANINGS = {
    "input": "input: share of the prior's error that the best reconstruction removes",
    "identity": "identity: how far re-identification goes from chance to all victims",
    "words": "words: read from one vector for each word",
}


def leakage_drawing(rows: Sequence[CutRow]) -> Drawing:
    """Return a drawing of leakage, from 0 (prior knowledge) to 1 (everything), against bytes per inference."""
    found: dict[str, list[tuple[int, float]]] = {}
    for place, row in enumerate(rows):
        if row.reconstruction:
            found.setdefault("input", []).append((place, row.reconstruction.explained))
            if row.reconstruction.reid is not None:
                found.setdefault("identity", []).append((place, row.reconstruction.identified))
        if row.words:
            found.setdefault("words", []).append((place, row.words.gained))
        for leak in row.attributes:
            found.setdefault(leak.name, []).append((place, leak.gained))
    cuts = [Cut(f"cut {row.cut}{row.mark}", row.cost.bytes, size(row.cost.bytes)) for row in rows]
    series = [Series(name, _MEANINGS.get(name, f"{name}: AUC gained"), tuple(values)) for name, values in found.items()]
    return Drawing("leakage", "leakage against bytes on the wire", partial(leakage, cuts, series), least=LEAST)
