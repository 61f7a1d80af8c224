"""Leakage by layer: profiles over seeds, their numbers, and a comparison with the paper's findings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from wireleak.common.reads import Marked


@dataclass(frozen=True)
class LayerQuantity:
    """One measured quantity, a column of the map.

    Parameters
    ----------
    name : str
        Key in a profile.
    heading, unit : str
        Two short lines of the column's head.
    meaning : str
        Explanation for readers who do not know the quantity.
    null : str or None
        Key of the null that is subtracted.
    floor : float
        Value without any leakage, white in the map.
    over : str
        Text for that which a value exceeds.
    """

    name: str
    heading: str
    unit: str
    meaning: str
    null: str | None = None
    floor: float = 0.0
    over: str = "its null"

    def of(self, layer: Mapping[str, Any]) -> float:
        """Return a layer's value minus its null; NaN where it was not measured.

        A null below 0 means that a reader of noise did worse than no reader. It is not subtracted, because the result
        could exceed the label's entropy.
        """
        value, *less = (_number(layer.get(key)) for key in (self.name, self.null) if key)
        return value - sum(null if math.isnan(null) else max(null, 0.0) for null in less)

    def write(self, value: float) -> str:
        """Return a value as text."""
        if not math.isfinite(value):
            return "–"
        places = ".2g" if "sensitivity" in self.name else ".4f" if "mse" in self.name else ".2f"
        shown = f"{value:{places}}"
        return (shown.lstrip("-") if float(shown) == 0 else shown).replace("-", "−")


ORIGINAL = LayerQuantity(
    *("original", "rebuilt", "R²"),
    "share of the variance of the mean input's 10 leading components that a linear reader of the layer's gradient "
    "predicts, minus the same for inputs in random order",
    null="original_null",
)
INVERTED = LayerQuantity(
    *("inverted", "inverted", "dB"),
    "PSNR of inputs that a search rebuilds from this layer's gradient, above that of the mean input",
    null="inverted_null",
    over="the mean input",
)
MATCH = LayerQuantity(
    *("inverted_match", "gradient", "matched"),
    "cosine between this layer's gradient and that of the inputs that the search found; below 0.99 the search failed, "
    "and the figures are a lower bound",
)
LATENT = LayerQuantity(
    *("v_information", "V-info", "bits"),
    "V-information about the property: bits that simple readers extract from the layer's gradient, minus the same "
    "for the property in random order",
    null="v_null",
)
AUC = LayerQuantity("auc", "attack", "AUC", "attack on this layer only, on held-out examples; 0.5 is chance", floor=0.5)
GROUPS = (
    (
        "of the input",
        (
            ORIGINAL,
            INVERTED,
            LayerQuantity(
                *("inverted_ssim", "inverted", "SSIM"),
                "structural similarity of the inputs that the search rebuilds from this layer's gradient",
            ),
            LayerQuantity(
                *("sensitivity_input", "sens. to", "input"),
                "norm of the gradient's derivative by the input, over the gradient's norm and the root of its size",
            ),
        ),
    ),
    (
        "of the property",
        (
            LATENT,
            LayerQuantity(
                *("v_equalised", "at 512", "bits"),
                "V-information after a random projection of wider layers to 512 numbers",
                null="v_equalised_null",
            ),
            LayerQuantity(
                *("subspace", "subspace", "dist."),
                "distance between the subspaces of gradients with and without the property, minus the distance "
                "between two halves of the latter",
                null="subspace_null",
            ),
            LayerQuantity(
                *("sensitivity", "sens. to", "output"),
                "norm of the gradient's derivative by the output, over its range and the root of the layer's size",
            ),
            AUC,
        ),
    ),
)
# Details of the search, in the tables and not in the map.
SEARCH = (
    LayerQuantity("inverted_psnr", "inverted", "PSNR", "mean PSNR of the rebuilt inputs, in dB"),
    LayerQuantity("inverted_mean", "mean input", "PSNR", "mean PSNR of the mean input, in dB"),
    LayerQuantity("inverted_all", "all layers", "PSNR", "mean PSNR of a search by all layers' gradients, in dB"),
    LayerQuantity("inverted_mse", "inverted", "MSE", "mean squared error of the rebuilt inputs"),
    MATCH,
)
QUANTITIES = (*(one for _, group in GROUPS for one in group), *SEARCH)
# A search that matched the gradient worse than this does not show how much a layer reveals.
_MATCHED = 0.99
# The target of the attacks that rebuild inputs; its profiles join those of the properties.
_INPUT = "input"


@dataclass(frozen=True)
class Span:
    """Mean, minimum and maximum over seeds; NaN where no seed measured it."""

    mean: float
    low: float
    high: float


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
class Answer:
    """Whether the paper's two findings hold in this run; None where the run cannot decide."""

    original: bool | None
    latent: bool | None
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
    networks of arXiv 2010.08762. Layers are compared by the mean over seeds, minus the null. If a search
    for inputs did not match a first layer's gradient, that layer may reveal more, and a "no" becomes undecided.
    """
    dense = [number for number, layer in enumerate(one.layers[:-1]) if layer.kind != "conv"][:2]
    first = range(min(2, len(one.layers)))
    original, of_input = _peak(one, one.original, first, "the first layers carry most")
    failed = [one.layers[at].title for at in first if one.means(MATCH)[at] < _MATCHED]
    if original is False and failed:
        original = None
        of_input += f", but the search did not match the gradient of {', '.join(failed)}"
    latent, of_property = _peak(one, LATENT, dense, "the first dense layers carry most")
    r = _pearson(one.means(LATENT), one.means(AUC))
    where = f"{one.network} on {one.dataset}, {one.variant}"
    text = f"{where}. Input: {of_input}."
    if one.target != _INPUT:
        text += f" {one.target}: {of_property}."
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
        return Span(float(np.mean(finite)), min(finite), max(finite))

    def beyond(one: LayerQuantity, layer: Mapping[str, Any]) -> bool:
        highest = layer.get(f"{one.null}_high", layer.get(one.null or ""))
        return highest is not None and layer.get(one.name) is not None and layer[one.name] > highest

    first, less = seeds[0], [one for one in QUANTITIES if one.null]
    return LayerMean(
        *(int(first["index"]), str(first["kind"]), int(first["parameters"])),
        figures={one.name: span([one.of(layer) for layer in seeds]) for one in QUANTITIES},
        nulls={one.name: span([_number(layer.get(one.null or "")) for layer in seeds]).mean for one in less},
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


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _peak(one: Map, quantity: LayerQuantity, expected: Sequence[int], claim: str) -> tuple[bool | None, str]:
    """Return whether the strongest layer is an expected one, and a phrase that says so."""
    means = one.means(quantity)
    top = highest(means)
    span = one.layers[top].figures[quantity.name]
    if quantity not in one.quantities:
        return None, "not measured"
    if not one.layers[top].beyond[quantity.name]:
        seeds = " in every seed" if one.seeds > 1 else ""
        return None, f"no layer exceeds its null{seeds}, so there is nothing to compare"
    named = ", ".join(f"{one.layers[number].title} {quantity.write(means[number])}" for number in expected)
    found = f"{one.layers[top].title} has the most, {quantity.write(means[top])} {quantity.unit} above {quantity.over}"
    if top in expected:
        return True, (found if len(expected) == 1 else f"{found} ({named})") + f"; {claim} in this run too"
    if one.seeds > 1 and any(one.layers[number].figures[quantity.name].high >= span.low for number in expected):
        return None, f"{found} ({named}); the seeds do not distinguish them"
    return False, f"{found} ({named}); this run does not confirm that {claim}"


def _pearson(one: Sequence[float], other: Sequence[float]) -> float:
    pairs = np.array([pair for pair in zip(one, other, strict=True) if all(map(math.isfinite, pair))])
    if len(pairs) < 3 or not np.ptp(pairs, axis=0).all():
        return math.nan
    return float(np.corrcoef(pairs.T)[0, 1])


def _sign(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-", "−")
