"""An audit's report: a terminal table, JSON and one HTML page."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from wireleak.common.files import write_atomically, write_json
from wireleak.common.measures import quantity
from wireleak.common.memory import written
from wireleak.lab.audit.readings import CutReading
from wireleak.lab.audit.rows import AttributeLeak, CutRow, count, cut_rows, percent, verdict
from wireleak.lab.audit.subject import Audited
from wireleak.lab.launch.watch import say
from wireleak.lab.report.boards import SeedMean, notes_of
from wireleak.lab.report.formatting import duration, size
from wireleak.lab.report.verdicts import TAGS
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.run.pictures import Pictures, read_pictures
from wireleak.lab.run.results import Results, read_results

_SHOWN = 10


def report(audited: Audited, console: Console) -> Path:
    """Print an audit's table, write audit.json and audit.html into the run's folder, and return the page's path."""
    results = read_results(audited.folder)
    rows = cut_rows(audited, results)
    said = verdict(rows, audited.doubts)
    if rows:
        console.print(terminal_table(rows, audited.subject.dataset.task))
    if audited.subject.left_out and audited.survey:
        console.print(unserved_table(audited))
    for line in (*said, *remarks(audited, rows)):
        say(console, line)
    _write_json(audited, rows, said)
    page = RunFolder(audited.folder).audit_page
    write_atomically(page, render(audited, rows, said, results, read_pictures(audited.folder)).encode())
    console.print(f"audit: {page}", soft_wrap=True, highlight=False)
    return page


def terminal_table(rows: Sequence[CutRow], task: str) -> Any:
    """Return the table for the terminal, one row for each cut; it fits 80 columns."""
    from rich import box
    from rich.table import Table

    table = Table(title="audit: cost and leakage of each cut", title_justify="left", box=box.HORIZONTALS)
    table.padding = 0
    # Fixed widths: a long name is folded and moves no other column.
    for column, width in _COLUMNS.items():
        table.add_column(column, overflow="fold", width=width)
    for row in rows:
        facts = [
            f"[bold]{row.cut} after {escape(row.block)}[/]",
            f"[bold]{row.tag}{row.mark}[/]",
            f"{count(row.cost.floats)} floats, {size(row.cost.bytes)}",
            f"{count(row.cost.flops)} FLOPs",
            f"{count(row.cost.parameters)} weights",
            f"task {percent(row.accuracy)}",
        ]
        table.add_row("\n".join(facts), *_columns(_lines(row)), end_section=True)
    table.caption = (
        f"task: {task}. prior: the mean image, the commonest words, or a guess of the attribute without the "
        "activation. Percentages of the input: share of the prior's error that is removed. Bits: V-information, of the "
        "label's entropy."
    )
    table.caption_justify = "left"
    return table


def unserved_table(audited: Audited) -> Any:
    """Return the table of the cuts that were not served, for the terminal: costs, and the cheap reading in process."""
    from rich import box
    from rich.table import Table

    table = Table(title="cuts not served, read in process", title_justify="left", box=box.HORIZONTALS)
    table.padding = 0
    widths = {"cut": 26, "wire": 8, "FLOPs": 7, "input": 7, "identity": 9, "chance": 7, "shown": 14}
    for column, width in widths.items():
        table.add_column(column, overflow="fold", width=width)
    for cut, read in sorted(audited.survey.items()):
        if cut in audited.subject.left_out:
            cost = audited.subject.costs[cut]
            named = f"{cut} after {escape(audited.subject.block(cut))}"
            figures = size(cost.bytes), count(cost.flops), *map(percent, (read.explained, read.reid, read.chance))
            table.add_row(named, *figures, TAGS[read.outcome])
    table.caption = (
        "input: share of the mean image's error that is removed; identity: victims re-identified. Ridge or nearest "
        f"neighbour{_basis(audited)}. No attack was tried, so a cut may leak more."
    )
    table.caption_justify = "left"
    return table


def _basis(audited: Audited) -> str:
    """Return the numbers of examples on which the survey rests, as text."""
    pairs = sorted({(read.pairs, read.victims) for read in audited.survey.values()})
    return f" on {' or '.join(f'{own} pairs and {victims} victims' for own, victims in pairs)}" if pairs else ""


def remarks(audited: Audited, rows: Sequence[CutRow]) -> list[str]:
    """Return what was skipped and why, and the time and memory that the audit took."""
    grouped: dict[str, list[str]] = {}
    for cut, attacks in audited.skipped.items():
        for attack, reason in attacks.items():
            grouped.setdefault(reason, []).append(f"{attack} at cut {cut}")
    unserved: dict[str, list[int]] = {}
    for cut, reason in audited.subject.left_out.items():
        unserved.setdefault(re.sub(r"^cut \d+", "an earlier cut", reason), []).append(cut)
    said = [
        f"{attack} at cut {cut}: {how}" for cut, attacks in audited.stopped.items() for attack, how in attacks.items()
    ]
    said += notes_of(score for row in rows for score in row.shown)
    said += [f"skipped {', '.join(sorted(names, key=_by_number))}: {reason}" for reason, names in grouped.items()]
    said += [f"skipped {_cuts(cuts)}: not served: {reason}" for reason, cuts in unserved.items()]
    if (better := _better_unserved(audited, rows)) is not None:
        said.append(better)
    if audited.seconds:
        memory = f", at most {written(audited.peak)} of memory for all processes" if audited.peak else ""
        said.append(f"time: {_time(audited.seconds, audited.subject.request.budget)}{memory}")
    return said


def _time(spent: float, budget: float | None) -> str:
    """Return the time that an audit took, and whether it kept its budget."""
    if budget is None:
        return duration(spent)
    over = ", longer than its budget: give more time or fewer cuts" if spent > budget else ""
    return f"{spent:.0f} s of a budget of {budget:.0f} s{over}"


def _better_unserved(audited: Audited, rows: Sequence[CutRow]) -> str | None:
    """Where every served cut leaks, name the unserved one of which the cheap reading shows that the least."""
    served = [row.outcome for row in rows]
    # Few examples show little, so only silence against leaks counts, and not a smaller figure.
    others = [
        read for cut, read in audited.survey.items() if cut in audited.subject.left_out and read.outcome == "open"
    ]
    if not served or not others or not all(outcome in ("leak", "part") for outcome in served):
        return None
    best = min(others, key=lambda read: (read.leakage, audited.subject.costs[read.cut].bytes))
    return (
        f"every cut that was served leaks; the reading in process of cut {best.cut}, on {best.pairs} pairs, does not "
        f"show that it leaks: attack it with --cuts {best.cut}"
    )


def _cuts(numbers: Sequence[int]) -> str:
    """Return cuts as text, neighbours as a range."""
    groups: list[list[int]] = []
    for number in sorted(numbers):
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    named = [", ".join(map(str, one)) if len(one) < 3 else f"{one[0]} to {one[-1]}" for one in groups]
    return f"cut{'s' if len(numbers) > 1 else ''} {', '.join(named)}"


def _by_number(name: str) -> tuple[int, str]:
    return int(name.rpartition(" ")[2]), name


_COLUMNS = {"cut": 20, "target": 9, "attack [95 %]": 24, "prior": 6, "more": 15}


def _columns(lines: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """Return the lines' cells as columns; a cell that is folded takes a line of its own in every column."""
    widths = list(_COLUMNS.values())[1:]
    columns: list[list[str]] = [[] for _ in widths]
    for cells in lines or [("–", "", "", "")]:
        height = max(max(1, -(-len(cell) // width)) for cell, width in zip(cells, widths, strict=True))
        for column, cell, width in zip(columns, cells, widths, strict=True):
            folded = [cell[at : at + width] for at in range(0, len(cell), width)]
            column += [escape(part) for part in folded] + [""] * (height - len(folded))
    return ["\n".join(column) for column in columns]


def _lines(row: CutRow) -> list[tuple[str, str, str, str]]:
    """Return target, attack, prior and further figures of each line of a cut."""
    lines = []
    if one := row.reconstruction:
        ridge = "" if one.ridge is None else f"ridge {one.ridge:.4f}"
        measure = "F1" if one.is_text else "MSE"
        prior = quantity(one.score.measure).write(one.prior)
        lines.append(("words" if one.is_text else "input", f"{measure} {one.score.written}", prior, ridge))
        if one.score.interval:
            lines.append(("", one.score.interval, "", ""))
        lines.append(("", f"{percent(one.explained)} of it removed", "by", one.by))
        if one.reid is not None:
            chance = "" if one.reid.chance is None else percent(one.reid.chance)
            lines.append(("identity", f"{one.reid.written} {one.reid.interval}", chance, "re-identified"))
    elif read := row.survey:
        lines.append(("input", f"MSE {read.mse:.4f}", f"{read.prior:.4f}", "in process"))
        lines.append(("", f"{percent(read.explained)} of it removed", "by", read.by))
        lines.append(("", f"on {read.pairs} pairs", "", f"{read.victims} victims"))
        lines.append(("identity", percent(read.reid), percent(read.chance), "re-identified"))
    if row.words:
        lines.append(("words", f"{percent(row.words.share)} read", percent(row.words.majority), ""))
    for leak in row.attributes:
        bits = f"{leak.information.bits:.2f}/{leak.information.entropy:.2f} bit" if leak.information else ""
        lines.append((leak.name, f"AUC {leak.auc.written} {leak.auc.interval}", f"{leak.prior:.3f}", bits))
    return lines


def auc_words(leak: AttributeLeak) -> str:
    """Return an attribute's AUC with interval, prior and V-information as text."""
    words = f"{leak.auc.written} {leak.auc.interval} (prior {leak.prior:.3f})"
    if leak.information is not None:
        words += f", {leak.information.bits:.2f} of {leak.information.entropy:.2f} bits"
    return words


def render(
    audited: Audited, rows: Sequence[CutRow], said: Sequence[str], results: Results, pictures: Sequence[Pictures]
) -> str:
    """Return the audit as one self-contained HTML page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from wireleak.lab.audit.chart import leakage_drawing

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "report" / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"size": size, "duration": duration, "count": count, "percent": percent}
    return environment.get_template("audit.html.j2").render(
        subject=audited.subject,
        model=_short(audited.subject.request.model),
        rows=rows,
        said=said,
        chart=leakage_drawing(rows).inline() if rows else None,
        strips=_strips(rows, pictures),
        results=results,
        auc_words=auc_words,
        tags=TAGS,
        doubts=audited.doubts,
        remarks=remarks(audited, rows),
        unserved=[
            (cut, audited.subject.block(cut), audited.subject.costs[cut], audited.survey.get(cut), reason)
            for cut, reason in sorted(audited.subject.left_out.items())
        ],
    )


def _strips(rows: Sequence[CutRow], pictures: Sequence[Pictures]) -> list[dict[str, Any]]:
    """Return rows of the first victims' inputs and of the strongest reconstruction at each cut."""
    from wireleak.lab.report.charts.strips import strip

    strips: list[dict[str, Any]] = []
    for row in rows:
        mine = [one for one in pictures if one.variant == f"cut-{row.cut}"]
        if row.reconstruction is None or not mine:
            continue
        seed = mine[0].seed
        by = row.reconstruction.by
        found = [
            (one, guess)
            for one in mine
            if one.seed == seed
            for name, guess in one.guesses.items()
            if name in (by, f"control:{by}")
        ]
        if not found:
            continue
        one, guess = found[0]
        reach = float(np.abs(np.nan_to_num(one.originals)).max()) or 1.0
        if not strips:
            picture = strip(one.originals[:_SHOWN], "originals", one.ink, reach)
            strips.append({"label": "Originals", "note": "", "kind": "original", "picture": picture})
        picture = strip(guess[:_SHOWN], f"rebuilt at cut {row.cut}", one.ink, reach)
        note = f"{by}, MSE {row.reconstruction.score.written}"
        strips.append({"label": row.title, "note": note, "kind": "attack", "picture": picture})
    return strips


def _write_json(audited: Audited, rows: Sequence[CutRow], said: Sequence[str]) -> None:
    subject = audited.subject
    write_json(
        RunFolder(audited.folder).audit,
        _strict(
            {
                "model": subject.request.model,
                "data": subject.source,
                "task": subject.dataset.task,
                "examples": subject.counts.roles(),
                "verdict": list(said),
                "doubts": list(audited.doubts),
                "cuts": [as_json(row) for row in rows],
                "unserved": [
                    {"cut": cut, "after": subject.block(cut), **asdict(subject.costs[cut]), "reason": reason}
                    | {"survey": _read(audited.survey.get(cut))}
                    for cut, reason in sorted(subject.left_out.items())
                ],
                "seconds": audited.seconds,
                "peak_bytes": audited.peak,
            }
        ),
    )


def _strict(value: Any) -> Any:
    """Return JSON values with null for numbers that JSON does not know, such as NaN."""
    if isinstance(value, dict):
        return {name: _strict(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_json(row: CutRow) -> dict[str, Any]:
    """Return one cut's figures for JSON."""
    one = row.reconstruction
    return {
        "cut": row.cut,
        "after": row.block,
        "outcome": row.tag,
        **asdict(row.cost),
        "bytes_sent": row.sent,
        "accuracy": row.accuracy,
        "majority": row.majority,
        "leakage": None if math.isnan(row.leakage) else row.leakage,
        "reconstruction": one
        and {
            "by": one.by,
            "measure": one.score.measure,
            **_numbers(one.score),
            "prior": one.prior,
            "ridge": one.ridge,
            "explained": one.explained,
            "reid": one.reid and _numbers(one.reid) | {"chance": one.reid.chance},
        },
        "words": row.words and asdict(row.words),
        "attributes": {
            leak.name: _numbers(leak.auc)
            | {"prior": leak.prior, "permuted": leak.permuted}
            | {"v_information": leak.information and asdict(leak.information)}
            for leak in row.attributes
        },
        "skipped": dict(row.skipped),
        "stopped": dict(row.stopped),
        "survey": _read(row.survey),
    }


def _read(reading: CutReading | None) -> dict[str, Any] | None:
    return None if reading is None else asdict(reading) | {"explained": reading.explained}


def _numbers(score: SeedMean) -> dict[str, Any]:
    ends = {"low": score.low, "high": score.high}
    numbers = {score.measure: score.value} | {name: None if math.isnan(end) else end for name, end in ends.items()}
    return numbers | ({"incomplete": score.incomplete} if score.incomplete else {})


def _short(model: str) -> str:
    where, _, factory = model.rpartition(":")
    return f"{Path(where).name}:{factory}"
