"""Leakage by layer: profiles over seeds, their numbers, and a comparison with the paper's findings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from wireleak.common.reads import Marked
from wireleak.common.words import decimal, listed
from wireleak.lab.report.defences import Spread
from wireleak.lab.report.layer_quantities import (
    AUC,
    INVERTED,
    LATENT,
    MATCH,
    ORIGINAL,
    QUANTITIES,
    LayerQuantity,
    number,
)

# A search that matched the gradient worse than this does not show how much a layer reveals.
_MATCHED = 0.99
# The target of the attacks that rebuild inputs; its profiles join those of the properties.
_INPUT = "input"


@dataclass(frozen=True)
class Span:
    """Mean, minimum and maximum over seeds, NaN where no seed measured it; and each seed's value, or NaN."""

    mean: float
    low: float
    high: float
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True)
class LayerMean:
    """One layer, averaged over seeds.

    `figures`, `nulls` (subtracted from the figures) and `beyond` have the quantities' names as keys. `beyond` says
    whether the figure exceeds all draws of its null in every seed.
    """

    index: int
    kind: str
    parameters: int
    figures: Mapping[str, Span]
    nulls: Mapping[str, float]
    beyond: Mapping[str, bool]

    @property
    def title(self) -> str:
        """Number and kind of the layer."""
        return f"{self.index} {'conv' if self.kind == 'conv' else 'dense'}"


@dataclass(frozen=True)
class Map(Marked):
    """The layers of one variant's network, input first, for one property."""

    variant: str
    network: str
    dataset: str
    target: str
    seeds: int
    layers: tuple[LayerMean, ...]
    incomplete: str = ""

    @property
    def quantities(self) -> tuple[LayerQuantity, ...]:
        """The quantities that were measured in a layer."""
        return tuple(one for one in QUANTITIES if any(map(math.isfinite, self.means(one))))

    @property
    def original(self) -> LayerQuantity:
        """The quantity by which layers are compared in what they reveal of the input."""
        return INVERTED if INVERTED in self.quantities else ORIGINAL

    def means(self, quantity: LayerQuantity) -> list[float]:
        """Return the means of a quantity, one for each layer."""
        return [layer.figures[quantity.name].mean for layer in self.layers]


@dataclass(frozen=True)
class Claim:
    """A finding of the paper: some layers reveal more than all others.

    Parameters
    ----------
    holds : bool or None
        None where the run cannot decide: nothing was above its null, or the margin's interval holds zero.
    margin : Spread
        The most of the named layers minus the most of the others, paired by seed, with its 95 % interval (Student's
        t). NaN where the quantity was not measured; no interval with one seed.
    text : str
    unmatched : str
        Named layers whose gradient the search did not match, if only that leaves a "no" undecided.
    """

    holds: bool | None
    margin: Spread
    text: str
    unmatched: str = ""

    @property
    def verdict(self) -> str:
        """The answer in words."""
        if self.unmatched:
            return f"undecided, gradient of {self.unmatched} not matched"
        return {True: "as in the paper", False: "not as in the paper", None: "undecided"}[self.holds]


@dataclass(frozen=True)
class Answer:
    """Whether the paper's two findings hold in this run, on the input and on the property."""

    original: Claim
    latent: Claim
    correlation: float
    text: str


def maps(rows: Iterable[Mapping[str, Any]]) -> list[Map]:
    """Average profiles over seeds.

    Parameters
    ----------
    rows : iterable of mapping
        ``variant``, ``network``, ``dataset``, ``target``, ``seed``, ``incomplete``, and ``profile``, a list of one
        mapping a layer. A profile of the target "input" joins those of the same cell's properties, if there are any.

    Raises
    ------
    ValueError
        Seeds of one variant differ in their layers.
    """
    groups: dict[tuple[str, str, str, str], list[Sequence[Mapping[str, Any]]]] = {}
    partly: dict[tuple[str, str, str, str], str] = {}
    for row in _joined(list(rows)):
        shared = (row["variant"], row["network"], row["dataset"], row["target"])
        groups.setdefault(shared, []).append(row["profile"])
        partly[shared] = partly.get(shared) or row.get("incomplete", "")
    made = []
    for shared, profiles in groups.items():
        if len({tuple(layer["layer"] for layer in profile) for profile in profiles}) > 1:
            raise ValueError(f"variants.{shared[0]}: the profiles of its seeds have different layers")
        layers = tuple(_layer(each) for each in zip(*profiles, strict=True))
        made.append(Map(*shared, len(profiles), layers, partly[shared]))
    return made


def answer(one: Map) -> Answer:
    """Test whether first layers carry most original, and first dense layers most latent information.

    "First layers" are the first two; "first dense layers" the first two dense ones that are not the output, as in the
    networks of arXiv 2010.08762. In each seed the best of them is compared with the best of all other layers, minus
    the nulls; the interval over seeds of this margin decides, see `Claim`. If a search for inputs did not match a
    first layer's gradient, that layer may reveal more, and a "no" becomes undecided.
    """
    dense = [number for number, layer in enumerate(one.layers[:-1]) if layer.kind != "conv"][:2]
    first = range(min(2, len(one.layers)))
    original = _claim(one, one.original, first, "the first layers")
    failed = [one.layers[at].title for at in first if one.means(MATCH)[at] < _MATCHED]
    if original.holds is False and failed:
        before = original.text.removesuffix(original.verdict)
        original = replace(original, holds=None, unmatched=listed(failed))
        original = replace(original, text=before + original.verdict)
    latent = _claim(one, LATENT, dense, "the first dense layers")
    r = _pearson(one.means(LATENT), one.means(AUC))
    where = f"{one.network} on {one.dataset}, {one.variant}"
    text = f"{where}. Input: {original.text}."
    if one.target != _INPUT:
        text += f" {one.target}: {latent.text}."
    if not math.isnan(r):
        text += f" Across layers, V-information and attack AUC correlate with r = {_sign(r)}."
    return Answer(original, latent, r, text)


def highest(values: Sequence[float]) -> int:
    """Return the index of the greatest value, ignoring NaN."""
    return int(np.argmax([value if math.isfinite(value) else -math.inf for value in values]))


def table(one: Map) -> Markup:
    """Return the map's numbers as an HTML table: mean, range over seeds, and the subtracted null."""
    head = "".join(
        f'<th title="{escape(q.meaning)}">{escape(q.heading)} {escape(q.unit)}'
        f"<span>{'minus its null' if q.null else ''}</span></th>"
        for q in one.quantities
    )
    rows = []
    for layer in one.layers:
        cells = []
        for quantity in one.quantities:
            span, null = layer.figures[quantity.name], layer.nulls.get(quantity.name, math.nan)
            notes = [f"{quantity.write(span.low)} to {quantity.write(span.high)}"] if one.seeds > 1 else []
            notes += [f"null {quantity.write(null)}"] if math.isfinite(null) else []
            said = "".join(f'<br/><span class="interval">{note}</span>' for note in notes)
            cells.append(f'<td><span class="value">{quantity.write(span.mean)}</span>{said}</td>')
        rows.append(f"<tr><th>{escape(layer.title)}{one.mark}</th><td>{layer.parameters:,}</td>{''.join(cells)}</tr>")
    return Markup(
        f'<div class="scroll"><table class="numbers"><thead><tr><th>Layer</th><th>Weights</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def comparison(all_maps: Sequence[Map]) -> Markup:
    """Return an HTML table with one row for each variant: strongest layers for input and property, and best attack."""
    rows = []
    for one in all_maps:
        cells = []
        for quantity in (one.original, LATENT, AUC):
            if quantity not in one.quantities:
                cells.append("<td>–</td>")
                continue
            means = one.means(quantity)
            at = highest(means)
            span = one.layers[at].figures[quantity.name]
            ends = f"{quantity.write(span.low)} to {quantity.write(span.high)}" if one.seeds > 1 else ""
            cells.append(
                f'<td><span class="value">{quantity.write(means[at])}</span> {quantity.unit} in '
                f"{escape(one.layers[at].title)}"
                + (f'<br/><span class="interval">{ends}</span></td>' if ends else "</td>")
            )
        cells.append(f'<td class="value">{_sign(answer(one).correlation)}</td>')
        network = escape(f"{one.network} on {one.dataset}, {one.target}")
        rows.append(f"<tr><th>{escape(one.variant)}{one.mark}</th><td>{network}</td>{''.join(cells)}</tr>")
    heads = ("Variant", "Network", "Most of the input", "Most of the property", "Best layer", "r")
    head = "".join(f"<th>{escape(words)}</th>" for words in heads)
    return Markup(
        f'<div class="scroll"><table class="numbers"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
        "</table></div>"
    )


def _layer(seeds: Sequence[Mapping[str, Any]]) -> LayerMean:
    def span(values: Sequence[float]) -> Span:
        finite = [value for value in values if math.isfinite(value)] or [math.nan]
        return Span(float(np.mean(finite)), min(finite), max(finite), tuple(values))

    def beyond(one: LayerQuantity, layer: Mapping[str, Any]) -> bool:
        highest = layer.get(f"{one.null}_high", layer.get(one.null or ""))
        return highest is not None and layer.get(one.name) is not None and layer[one.name] > highest

    first, less = seeds[0], [one for one in QUANTITIES if one.null]
    return LayerMean(
        *(int(first["index"]), str(first["kind"]), int(first["parameters"])),
        figures={one.name: span([one.of(layer) for layer in seeds]) for one in QUANTITIES},
        nulls={one.name: span([number(layer.get(one.null or "")) for layer in seeds]).mean for one in less},
        beyond={one.name: all(beyond(one, layer) for layer in seeds) for one in less},
    )


def _joined(rows: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows, each property's with the figures that its cell's attack on the input measured."""

    def cell(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in ("variant", "network", "dataset", "seed"))

    of_input = {cell(row): row for row in rows if row["target"] == _INPUT}
    others = {cell(row) for row in rows if row["target"] != _INPUT}
    for row in rows:
        is_input, more = row["target"] == _INPUT, of_input.get(cell(row))
        if is_input and cell(row) in others:
            continue
        if is_input or more is None:
            yield row
            continue
        by_layer = {layer["layer"]: layer for layer in more["profile"]}
        profile = [by_layer.get(layer["layer"], {}) | dict(layer) for layer in row["profile"]]
        said = row.get("incomplete", "") or more.get("incomplete", "")
        yield {**row, "profile": profile, "incomplete": said}


def _claim(one: Map, quantity: LayerQuantity, expected: Sequence[int], named: str) -> Claim:
    """Compare the best of the expected layers with the best of all others, seed by seed."""
    means = one.means(quantity)
    if quantity not in one.quantities:
        return Claim(None, Spread.of([math.nan]), "not measured")
    top = one.layers[highest(means)]
    by_seed = np.array([layer.figures[quantity.name].seeds for layer in one.layers])
    # A layer that was not measured in a seed is not its best.
    by_seed[np.isnan(by_seed)] = -np.inf
    others = [at for at in range(len(one.layers)) if at not in expected]
    margins = by_seed[list(expected)].max(0, initial=-np.inf) - by_seed[others].max(0, initial=-np.inf)
    margin = Spread.of(margins[np.isfinite(margins)].tolist() or [math.nan])
    if not top.beyond[quantity.name]:
        seeds = " in every seed" if one.seeds > 1 else ""
        return Claim(None, margin, f"no layer exceeds its null{seeds}, so there is nothing to compare")
    holds = True if margin.low > 0 else False if margin.high < 0 else None
    best = quantity.write(top.figures[quantity.name].mean)
    each = ", ".join(f"{one.layers[at].title} {quantity.write(means[at])}" for at in expected)
    text = f"{top.title} has the most, {best} {quantity.unit} above {quantity.over} ({each})"
    value, low, high = map(quantity.write, (margin.value, margin.low, margin.high))
    text += f"; {named} minus all others: {value} "
    text += f"[{low}, {high}] {quantity.unit}" if one.seeds > 1 else f"{quantity.unit}, and one seed has no interval"
    claim = Claim(holds, margin, text)
    return replace(claim, text=f"{text}, {claim.verdict}")


def _pearson(one: Sequence[float], other: Sequence[float]) -> float:
    pairs = np.array([pair for pair in zip(one, other, strict=True) if all(map(math.isfinite, pair))])
    if len(pairs) < 3 or not np.ptp(pairs, axis=0).all():
        return math.nan
    return float(np.corrcoef(pairs.T)[0, 1])


def _sign(value: float) -> str:
    return "–" if math.isnan(value) else decimal(value, ".2f")
