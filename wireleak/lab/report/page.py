"""A run's report: one self-contained HTML page, and the table that the terminal shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from markupsafe import Markup

from wireleak.common.files import write_atomically
from wireleak.common.measures import column_order, quantity
from wireleak.common.reads import MARK, together
from wireleak.common.references import reference, reference_order
from wireleak.common.targets.input import Input
from wireleak.common.threat import attacker_at, sight
from wireleak.common.words import counted, listed
from wireleak.lab.report import comparison, localised
from wireleak.lab.report.boards import Board, boards, notes_of, times_planted
from wireleak.lab.report.defences import compare_defences
from wireleak.lab.report.findings import finding, findings, run_line, shared_line, task_line, titles
from wireleak.lab.report.formatting import duration, size
from wireleak.lab.report.gains import gains
from wireleak.lab.report.guarantees import of_training, private_training, wire_transforms
from wireleak.lab.report.published import published_scores
from wireleak.lab.report.training_page import training_page
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.run.pictures import Pictures, read_pictures
from wireleak.lab.run.results import Grant, Results, Wire, read_results

if TYPE_CHECKING:
    from rich.table import Table

_HERO_VICTIMS, _HERO_STRIPS = 8, 6
# Only links that serve inference are drawn; the others would repeat the same picture.
_TLS_SHOWN = 2
# Width that 80 columns leave next to the numbers.
_TERMINAL_NAME = 27
_TERMINAL_MEASURES = ("mse", "ssim", "reid", "auc")


@dataclass(frozen=True)
class Strip:
    """One labelled row of pictures; `kind` is the CSS class: original, attack or control."""

    label: str
    note: str
    kind: str
    picture: Markup


@dataclass(frozen=True)
class Grants:
    """The grants of one attack in one variant over targets and seeds; `first` represents all."""

    first: Grant
    group: tuple[Grant, ...]

    @property
    def targets(self) -> list[str]:
        """Targets of the attack."""
        return list(dict.fromkeys(one.target for one in self.group))

    @property
    def seeds(self) -> list[int]:
        """Seeds of the attack."""
        return sorted({one.seed for one in self.group})

    @property
    def files(self) -> list[str]:
        """Files granted to the attack, inside each seed's folder."""
        return sorted({file for one in self.group for file in one.files})

    @property
    def incomplete(self) -> str:
        """What was read where the study promised more, over targets and seeds."""
        return together(one.incomplete for one in self.group)

    @property
    def observations(self) -> str:
        """Number of tensors used, as a range where targets or seeds differ."""
        ends = (min(one.observations for one in self.group), max(one.observations for one in self.group))
        return " to ".join(dict.fromkeys(f"{end:,}" for end in ends))


def render(run_folder: Path) -> Path:
    """Write a run's `report.html` from its `results.json` and `pictures.npz`, atomically.

    Returns
    -------
    Path
        The page, which needs no network and no other file.

    Raises
    ------
    ValueError
        The folder holds no readable results; the message is one line.
    """
    results = read_results(run_folder)
    html = page(results, read_pictures(run_folder, ranked=True))
    path = RunFolder(run_folder).report
    write_atomically(path, html.encode())
    return path


def page(results: Results, pictures: Sequence[Pictures] = ()) -> str:
    """Return the report as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"size": size, "duration": duration}
    return environment.get_template("report.html.j2").render(
        **_context(results, pictures),
        training=training_page(results),
        localise=localised,
        comparisons=compare_defences(results),
        comparing=comparison,
        gains=gains(results),
    )


def _context(results: Results, pictures: Sequence[Pictures]) -> dict[str, Any]:
    # The plotting library takes most of a second to import, and only the page needs it.
    from wireleak.lab.report import devices, figures, ranked

    names = titles(results)
    order = list(names)
    every = sorted(boards(results.rows), key=lambda board: order.index(board.variant))
    worst = ranked.worst(results, every, pictures, names)
    pictures = [one for one in pictures if not one.target]
    plain = [board for board in every if board.link != "tls"]
    vantages = sorted({board.vantage for board in every})
    wires = first_seed(results.wires)
    linked = {wire.variant for wire in wires}
    return {
        "results": results,
        "titles": names,
        "hero": hero(every, pictures, names),
        "findings": findings(results),
        "partly": notes_of(results.rows),
        "mark": MARK,
        "task_line": task_line(results),
        "shared_line": shared_line(results),
        "private": private_training(results, names),
        "transforms": wire_transforms(results, names),
        "published": published_scores(results, names),
        "run_line": run_line(results),
        "of_training": of_training(results),
        "listed": listed,
        "unlinked": [names[one.name] for one in results.variants if one.name not in linked],
        "vantages": [attacker_at(name) for name in vantages],
        "wires": [(names.get(name, name), [wire for wire in wires if wire.variant == name]) for name in _names(wires)],
        "traffic": figures.traffic_drawings(wires, names),
        "galleries": [(names.get(one.variant, one.variant), one, gallery(one)) for one in _first_seed_of(pictures)],
        "exposure": figures.exposure_drawing(every, names),
        "curves": ranked.roc_drawings(results, every, names),
        "worst": worst,
        "plain": [Panel(board, names[board.variant], every) for board in plain],
        "tls": [Panel(board, names[board.variant], every) for board in every if board.link == "tls"],
        "unprotected": [wire for wire in wires if wire.link == "tls" and not wire.tls],
        "tls_wires": [(names.get(wire.variant, wire.variant), wire) for wire in wires if wire.tls][:_TLS_SHOWN],
        "grants": grants(results.grants),
        "set_up": devices.set_up_drawing(results.devices),
        "devices": devices,
        "opened": {next((wire.variant for wire in wires if wire.tls is tls), None) for tls in (False, True)},
        "score_key": figures.key_drawing(),
        "figures": figures,
        "quantity": quantity,
        "reference": reference,
        "sight": sight,
        "measures": sorted({row.measure for row in results.rows}, key=column_order),
        "others": sorted(
            {(row.name, row.role) for row in results.rows if row.name and row.role != "window"},
            key=lambda one: reference_order(one[0]),
        ),
    }


class Panel:
    """One board on the page: a chart for each measure, and a table of the same numbers."""

    def __init__(self, board: Board, title: str, every: Sequence[Board]) -> None:
        self.board = board
        self.title = title
        self.finding = finding(board, title)
        self.notes = notes_of(board.scores)
        self.seeds = max(score.seeds for score in board.scores)
        self.n = max(score.n for score in board.scores)
        planted = board.get("exposure") if times_planted(board) else None
        self.scored = f"planted numbers: {planted.n}" if planted else counted(self.n, "victim")
        self._every = every

    def label(self, name: str) -> str:
        """Return a row's label."""
        scores = [score for score in self.board.scores if score.name == name]
        label = scores[0].label if name else f"{self.board.attack} (the attack)"
        seeds = max(score.seeds for score in scores)
        return label if seeds == self.seeds else f"{label}, {counted(seeds, 'seed')}"

    def hint(self, name: str) -> str:
        """Return whether higher or lower values of a measure leak more."""
        how = quantity(name)
        return f"{'higher' if how.higher_leaks else 'lower'} leaks more"

    def charts(self) -> list[Markup]:
        """Return a chart for each measure, on an axis that all boards share."""
        from wireleak.lab.report import figures

        return [drawing.inline() for drawing in figures.score_drawings(self.board, self.title, self._every)]


def first_seed(wires: Sequence[Wire]) -> list[Wire]:
    """Return the captures of each variant's first seed."""
    first = {name: min(wire.seed for wire in wires if wire.variant == name) for name in _names(wires)}
    chosen = [wire for wire in wires if wire.seed == first[wire.variant]]
    # Links that most attacks read come first: serving, then training, then Flower's own link.
    order = ("serve", "train", "fleet")
    return sorted(
        chosen, key=lambda wire: next((n for n, kind in enumerate(order) if wire.link_name.startswith(kind)), 9)
    )


def _names(items: Sequence[Wire] | Sequence[Pictures]) -> list[str]:
    return list(dict.fromkeys(item.variant for item in items))


def _first_seed_of(pictures: Sequence[Pictures]) -> list[Pictures]:
    first = {name: min(one.seed for one in pictures if one.variant == name) for name in _names(pictures)}
    return [one for one in pictures if one.seed == first[one.variant]]


def grants(granted: Sequence[Grant]) -> list[Grants]:
    """Merge grants that differ only in target, seed and files."""
    found: dict[tuple[object, ...], list[Grant]] = {}
    for one in granted:
        key = (one.variant, one.link, one.attack, one.vantage, tuple(one.sees), tuple(one.knows), one.note)
        found.setdefault(key, []).append(one)
    return [Grants(group[0], tuple(group)) for group in found.values()]


def hero(every: Sequence[Board], pictures: Sequence[Pictures], names: dict[str, str]) -> list[Strip]:
    """Return rows of pictures: originals, reconstructions in each variant (TLS last), and the mean image.

    If there are too many attacks for one view, only the closest reconstruction of each variant is shown.
    """
    shown = sorted(_first_seed_of(pictures), key=lambda one: one.link == "tls")
    if not shown:
        return []
    first = shown[0]
    several = len({one.attack for one in shown}) > 1
    crowded = len(shown) > _HERO_STRIPS
    if crowded:
        shown = _closest(shown, every)
    rows = []
    if len(first.originals):
        rows = [_strip(first, first.originals, "Kept private by the device", "originals", "original", _HERO_VICTIMS)]
    for one in shown:
        if one.attack in one.guesses and np.array_equal(one.originals, first.originals):
            board = next((found for found in every if (found.variant, found.attack) == (one.variant, one.attack)), None)
            title = names.get(one.variant, one.variant)
            label = f"Rebuilt by {one.attack}: {title}" if several else f"Rebuilt from the wire: {title}"
            label += ", the closest attack" if crowded else ""
            if one.link == "tls":
                label = f"The same under TLS: {names.get(one.variant, one.variant).removesuffix(', TLS')}"
            rows.append(_strip(one, one.guesses[one.attack], label, _headline(board), "attack", _HERO_VICTIMS))
    if "control:mean" in first.guesses:
        board = next((found for found in every if (found.variant, found.attack) == (first.variant, first.attack)), None)
        mean = _headline(board, "mean")
        rows.append(
            _strip(first, first.guesses["control:mean"], "Mean image, a guess without the wire", mean, "control", 8)
        )
    return rows


def _closest(pictures: Sequence[Pictures], every: Sequence[Board]) -> list[Pictures]:
    """Return for each variant the pictures of the attack with the lowest mean squared error."""
    errors = {
        (board.variant, board.attack): score.value
        for board in every
        if board.target == Input.name and (score := board.get("mse"))
    }
    best: dict[str, Pictures] = {}
    for one in pictures:
        known = best.setdefault(one.variant, one)
        if errors.get((one.variant, one.attack), np.inf) < errors.get((known.variant, known.attack), np.inf):
            best[one.variant] = one
    return list(best.values())


def _headline(board: Board | None, row: str = "") -> str:
    if board is None:
        return ""
    wanted = (board.get(name, row) for name in ("mse", "reid"))
    return " · ".join(f"{quantity(one.measure).label} {one.written}" for one in wanted if one)


def gallery(pictures: Pictures) -> list[Strip]:
    """Return rows of originals and of the guesses of the attack and every baseline; columns are victims."""
    rows = [_strip(pictures, pictures.originals, "Originals", "", "original")] if len(pictures.originals) else []
    own = [name for name in pictures.guesses if not name.startswith("control:")]
    rows += [_strip(pictures, pictures.guesses[name], f"{name} (the attack)", "", "attack") for name in own]
    others = [name.removeprefix("control:") for name in pictures.guesses if name.startswith("control:")]
    for name in sorted(others, key=reference_order):
        label = reference(name).label
        rows.append(_strip(pictures, pictures.guesses[f"control:{name}"], label, "", "control"))
    return rows


def _strip(one: Pictures, values: Any, label: str, note: str, kind: str, most: int | None = None) -> Strip:
    from wireleak.lab.report.charts.strips import strip

    chosen = values[:most]
    said = f"{label}: inputs of the first {counted(len(chosen), 'victim')}" + (f"; {note}" if note else "")
    reach = float(np.abs(np.nan_to_num(one.originals)).max(initial=0.0)) or 1.0
    return Strip(label, note, kind, strip(chosen, said, one.ink, reach))


def terminal_table(results: Results) -> Table:
    """Return the result table of `wireleak run`: headline measures with intervals, and their baselines."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{results.study}: leakage on the wire", title_justify="left", box=box.HORIZONTALS)
    table.padding = 0  # The box leaves a gap between columns; the table must fit 80 columns.
    table.add_column("variant: target", max_width=_TERMINAL_NAME)
    for column in ("measure", "attack [95 %]", "prior", "linear"):
        align: Literal["right", "left"] = "right" if column in ("prior", "linear") else "left"
        table.add_column(column, justify=align, no_wrap=True)
    names = titles(results)
    order = list(names)
    styles = {"leak": "bold red", "part": "yellow", "open": "", "bounded": "green"}
    every = sorted(boards(results.rows), key=lambda one: order.index(one.variant))
    ambiguous = [key for key, count in Counter((one.variant, one.target) for one in every).items() if count > 1]
    for board in every:
        found = finding(board, "")
        by = f" by {board.attack}" if (board.variant, board.target) in ambiguous else ""
        name_of = f"{names[board.variant]}: {board.target}{by}\n"
        shown = [name for name in board.measures if name in _TERMINAL_MEASURES] or board.measures[:1]
        for line, name in enumerate(shown):
            own, linear = board.get(name), board.get(name, "ridge")
            table.add_row(
                Text(name_of).append(found.tag, styles[found.outcome]) if line == 0 else "",
                quantity(name).label,
                Text(f"{own.written} {own.interval}" if own else "–"),
                strongest_prior(board, name),
                linear.written if linear else "",
                end_section=line == len(shown) - 1,
            )
    lines = ["prior: the best baseline that ignores this victim's traffic.", task_line(results), shared_line(results)]
    lines += notes_of(results.rows) + wire_transforms(results, names) + private_training(results, names)
    table.caption = "\n".join(filter(None, lines))
    table.caption_justify = "left"
    return table


def strongest_prior(board: Board, measure: str) -> str:
    """Return the best score of a baseline by `measure` as text, "–" without one."""
    priors = board.priors(measure)
    return priors[0].written if priors else "–"
