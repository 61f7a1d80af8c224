"""Where the leakage sits: profiles of layers over seeds, their numbers, and a comparison with the paper's findings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape


@dataclass(frozen=True)
class LayerQuantity:
    """One column.

    Parameters
    ----------
    name : str
        In a profile.
    heading, unit : str
        Short, one above the other.
    meaning : str
        For a reader who does not know it.
    null : str or None
        The profile's name of what is subtracted.
    floor : float
        What nothing at all would be, white in the map.
    """

    name: str
    heading: str
    unit: str
    meaning: str
    null: str | None = None
    floor: float = 0.0

    def of(self, layer: Mapping[str, Any]) -> float:
        """A layer's figure less its null; NaN where it was not measured.

        A null below 0 says that a reader of noise did worse than one that reads nothing: no credit to the real figure,
        which would exceed all there is to know.
        """
        value, *less = (_number(layer.get(key)) for key in (self.name, self.null) if key)
        return value - sum(null if math.isnan(null) else max(null, 0.0) for null in less)

    def write(self, value: float) -> str:
        """A figure as people read it."""
        if not math.isfinite(value):
            return "–"
        shown = f"{value:.2g}" if "sensitivity" in self.name else f"{value:.2f}"
        return (shown.lstrip("-") if float(shown) == 0 else shown).replace("-", "−")


ORIGINAL = LayerQuantity(
    *("original", "rebuilt", "R²"),
    "share of the variance of the mean input's 10 leading components that a linear reader of the layer's gradient "
    "gets right, less the same for inputs in random order",
    null="original_null",
)
LATENT = LayerQuantity(
    *("v_information", "told", "bits"),
    "V-information about the property: what readers of limited means get from the layer's gradient, less the same "
    "for the property in random order",
    null="v_null",
)
AUC = LayerQuantity(
    "auc", "attack", "AUC", "attack on the layer alone, on examples it never saw; 0.5 is chance", floor=0.5
)
GROUPS = (
    (
        "of the input",
        (
            ORIGINAL,
            LayerQuantity(
                *("sensitivity_input", "sens. to", "input"),
                "norm of the gradient's derivative by the input, over the gradient's own and the root of its size",
            ),
        ),
    ),
    (
        "of the property",
        (
            LATENT,
            LayerQuantity(
                *("v_equalised", "at 512", "bits"),
                "the same V-information where wider layers are projected at random to 512 numbers",
                null="v_equalised_null",
            ),
            LayerQuantity(
                *("subspace", "subspace", "dist."),
                "how far gradients with the property turn away from those without, less the distance of two halves "
                "of the latter",
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
QUANTITIES = tuple(one for _, group in GROUPS for one in group)


@dataclass(frozen=True)
class Span:
    """Mean, least and greatest over seeds; NaN where no seed has it."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class LayerMean:
    """One layer, averaged over seeds.

    `figures` and `nulls` (what was subtracted) are by the quantity's name, as is `beyond`: whether the figure exceeds
    all draws of its null in every seed.
    """

    index: int
    kind: str
    parameters: int
    figures: Mapping[str, Span]
    nulls: Mapping[str, float]
    beyond: Mapping[str, bool]

    @property
    def title(self) -> str:
        """As a reader calls it."""
        return f"{self.index} {'conv' if self.kind == 'conv' else 'dense'}"


@dataclass(frozen=True)
class Map:
    """The layers of one variant's network, input first, for one property."""

    variant: str
    network: str
    dataset: str
    target: str
    seeds: int
    layers: tuple[LayerMean, ...]

    def means(self, quantity: LayerQuantity) -> list[float]:
        """A quantity over the layers."""
        return [layer.figures[quantity.name].mean for layer in self.layers]


@dataclass(frozen=True)
class Answer:
    """Whether the paper's findings hold here too; None where no layer stands out of its null, or of other layers."""

    original: bool | None
    latent: bool | None
    correlation: float
    text: str


def maps(rows: Iterable[Mapping[str, Any]]) -> list[Map]:
    """Average profiles over seeds.

    Parameters
    ----------
    rows : iterable of mapping
        ``variant``, ``network``, ``dataset``, ``target``, ``seed``, and ``profile``, a list of one mapping a layer.

    Raises
    ------
    ValueError
        Seeds of one variant differ in their layers.
    """
    groups: dict[tuple[str, str, str, str], list[Sequence[Mapping[str, Any]]]] = {}
    for row in rows:
        shared = (row["variant"], row["network"], row["dataset"], row["target"])
        groups.setdefault(shared, []).append(row["profile"])
    made = []
    for shared, profiles in groups.items():
        if len({tuple(layer["layer"] for layer in profile) for profile in profiles}) > 1:
            raise ValueError(f"variants.{shared[0]}: its seeds' profiles are of different layers")
        made.append(Map(*shared, len(profiles), tuple(_layer(each) for each in zip(*profiles, strict=True))))
    return made


def answer(one: Map) -> Answer:
    """Say whether first layers carry most original, and the first dense layers most latent information here too.

    "First layers" are the first two; "first dense layers" the first two dense ones that are not the output, as in the
    networks of arXiv 2010.08762. The layer with most is that of the mean over seeds, less its null.
    """
    dense = [number for number, layer in enumerate(one.layers[:-1]) if layer.kind != "conv"][:2]
    original, of_input = _peak(one, ORIGINAL, range(min(2, len(one.layers))), "first layers carry most")
    latent, of_property = _peak(one, LATENT, dense, "the first dense layers carry most")
    r = _pearson(one.means(LATENT), one.means(AUC))
    where = f"{one.network} on {one.dataset}, {one.variant}"
    text = f"{where}: of the input itself, {of_input}. Of {one.target}, {of_property}."
    if not math.isnan(r):
        text += f" Over the layers, V-information and attack AUC correlate with r = {_sign(r)}."
    return Answer(original, latent, r, text)


def highest(values: Sequence[float]) -> int:
    """Where the greatest value is; NaN is none."""
    return int(np.argmax([value if math.isfinite(value) else -math.inf for value in values]))


def table(one: Map) -> Markup:
    """The map's numbers: mean, least to greatest over seeds, and the null that was subtracted."""
    head = "".join(
        f'<th title="{escape(q.meaning)}">{escape(q.heading)} {escape(q.unit)}'
        f"<span>{'less its null' if q.null else ''}</span></th>"
        for q in QUANTITIES
    )
    rows = []
    for layer in one.layers:
        cells = []
        for quantity in QUANTITIES:
            span, null = layer.figures[quantity.name], layer.nulls.get(quantity.name, math.nan)
            notes = [f"{quantity.write(span.low)} to {quantity.write(span.high)}"] if one.seeds > 1 else []
            notes += [f"null {quantity.write(null)}"] if math.isfinite(null) else []
            said = "".join(f'<br/><span class="interval">{note}</span>' for note in notes)
            cells.append(f'<td><span class="value">{quantity.write(span.mean)}</span>{said}</td>')
        rows.append(f"<tr><th>{escape(layer.title)}</th><td>{layer.parameters:,}</td>{''.join(cells)}</tr>")
    return Markup(
        f'<div class="scroll"><table class="numbers"><thead><tr><th>Layer</th><th>Weights</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def comparison(all_maps: Sequence[Map]) -> Markup:
    """Variants side by side: the strongest layer for the input and for the property, and the attack on the latter."""
    rows = []
    for one in all_maps:
        cells = []
        for quantity in (ORIGINAL, LATENT, AUC):
            means = one.means(quantity)
            at = highest(means)
            span = one.layers[at].figures[quantity.name]
            ends = f"{quantity.write(span.low)} to {quantity.write(span.high)}" if one.seeds > 1 else ""
            cells.append(
                f'<td><span class="value">{quantity.write(means[at])}</span> in {escape(one.layers[at].title)}'
                + (f'<br/><span class="interval">{ends}</span></td>' if ends else "</td>")
            )
        cells.append(f'<td class="value">{_sign(answer(one).correlation)}</td>')
        network = escape(f"{one.network} on {one.dataset}, {one.target}")
        rows.append(f"<tr><th>{escape(one.variant)}</th><td>{network}</td>{''.join(cells)}</tr>")
    heads = ("Variant", "Network", "Most of the input, R²", "Most of the property, bits", "Best layer's AUC", "r")
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


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _peak(one: Map, quantity: LayerQuantity, expected: Sequence[int], claim: str) -> tuple[bool | None, str]:
    """Whether the strongest layer is among those expected, and what was found."""
    means = one.means(quantity)
    top = highest(means)
    span = one.layers[top].figures[quantity.name]
    if not one.layers[top].beyond[quantity.name]:
        seeds = " in every seed" if one.seeds > 1 else ""
        return None, f"no layer stands clear of its null{seeds}: nothing to compare"
    named = ", ".join(f"{one.layers[number].title} {quantity.write(means[number])}" for number in expected)
    found = f"{one.layers[top].title} has most, {quantity.write(means[top])} {quantity.unit} above its null"
    if top in expected:
        return True, (found if len(expected) == 1 else f"{found} ({named})") + f": {claim} here too"
    if one.seeds > 1 and any(one.layers[number].figures[quantity.name].high >= span.low for number in expected):
        return None, f"{found} ({named}): the seeds do not tell them apart"
    return False, f"{found} ({named}): not so here that {claim}"


def _pearson(one: Sequence[float], other: Sequence[float]) -> float:
    pairs = np.array([pair for pair in zip(one, other, strict=True) if all(map(math.isfinite, pair))])
    if len(pairs) < 3 or not np.ptp(pairs, axis=0).all():
        return math.nan
    return float(np.corrcoef(pairs.T)[0, 1])


def _sign(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-", "−")
