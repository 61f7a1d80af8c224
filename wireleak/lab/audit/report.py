"""An audit's report: a terminal table, JSON and one HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from wireleak.common.files import write_atomically, write_json
from wireleak.common.measures import quantity
from wireleak.lab.audit.rows import AttributeLeak, CutRow, count, cut_rows, percent, verdict
from wireleak.lab.audit.subject import Audited
from wireleak.lab.report.boards import SeedMean
from wireleak.lab.report.formatting import duration, size
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.run.pictures import Pictures, read_pictures
from wireleak.lab.run.results import Results, read_results

_SHOWN = 10


def report(audited: Audited, console: Console) -> Path:
    """Print an audit's table, write audit.json and audit.html into the run's folder, and return the page's path."""
    results = read_results(audited.folder)
    rows = cut_rows(audited, results)
    said = verdict(rows)
    console.print(terminal_table(rows, audited.subject.dataset.task))
    for line in said:
        console.print(line, highlight=False, soft_wrap=True)
    _write_json(audited, rows, said)
    page = RunFolder(audited.folder).audit_page
    write_atomically(page, render(audited, rows, said, results, read_pictures(audited.folder)).encode())
    console.print(f"audit: {page}", soft_wrap=True, highlight=False)
    return page


def terminal_table(rows: Sequence[CutRow], task: str) -> Any:
    """Return the table for the terminal, one row for each cut."""
    from rich import box
    from rich.table import Table

    table = Table(title="audit: cost and leakage of each cut", title_justify="left", box=box.HORIZONTALS)
    table.padding = 0  # must fit 80 columns
    for column in ("cut", "target", "attack [95 %]", "prior", "more"):
        table.add_column(column, overflow="fold")
    for row in rows:
        facts = [
            f"[bold]{row.cut} after {escape(row.block)}[/]",
            f"{count(row.cost.floats)} floats, {size(row.cost.bytes)}",
            f"{count(row.cost.flops)} FLOPs",
            f"{count(row.cost.parameters)} weights",
            f"task {percent(row.accuracy)}",
        ]
        lines = []
        if one := row.reconstruction:
            ridge = "" if one.ridge is None else f"ridge {one.ridge:.4f}"
            measure = "F1" if one.is_text else "MSE"
            prior = quantity(one.score.measure).write(one.prior)
            lines.append(
                (
                    "words" if one.is_text else "input",
                    f"{measure} {one.score.written} {one.score.interval}",
                    prior,
                    ridge,
                )
            )
            lines.append(("", f"{percent(one.explained)} of it, by {one.by}", "", ""))
        if row.words:
            lines.append(("words", f"{percent(row.words.share)} read", percent(row.words.majority), ""))
        for leak in row.attributes:
            bits = f"{leak.information.bits:.2f}/{leak.information.entropy:.2f} bit" if leak.information else ""
            lines.append((leak.name, f"AUC {leak.auc.written} {leak.auc.interval}", f"{leak.prior:.3f}", bits))
        table.add_row(
            "\n".join(facts),
            *("\n".join(cells) for cells in zip(*(lines or [("–", "", "", "")]), strict=True)),
            end_section=True,
        )
    table.caption = (
        f"task: {task}. prior: the mean image, the commonest words, or a guess of the attribute without the "
        "activation. Percentages of the input: share of the prior's error that is removed. Bits: V-information, of the "
        "label's entropy."
    )
    table.caption_justify = "left"
    return table


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
        chart=leakage_drawing(rows).inline(),
        strips=_strips(rows, pictures),
        results=results,
        auc_words=auc_words,
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
    cuts = [
        {
            "cut": row.cut,
            "after": row.block,
            **asdict(row.cost),
            "bytes_sent": row.sent,
            "accuracy": row.accuracy,
            "majority": row.majority,
            "leakage": row.leakage,
            "reconstruction": row.reconstruction
            and {
                "by": row.reconstruction.by,
                "measure": row.reconstruction.score.measure,
                **_numbers(row.reconstruction.score),
                "prior": row.reconstruction.prior,
                "ridge": row.reconstruction.ridge,
                "explained": row.reconstruction.explained,
            },
            "words": row.words and asdict(row.words),
            "attributes": {
                one.name: _numbers(one.auc)
                | {"prior": one.prior, "permuted": one.permuted}
                | {"v_information": one.information and asdict(one.information)}
                for one in row.attributes
            },
        }
        for row in rows
    ]
    written = {"model": subject.request.model, "data": subject.source, "task": subject.dataset.task}
    write_json(RunFolder(audited.folder).audit, written | {"verdict": list(said), "cuts": cuts})


def _numbers(score: SeedMean) -> dict[str, Any]:
    ends = {"low": score.low, "high": score.high}
    return {score.measure: score.value} | {name: None if math.isnan(end) else end for name, end in ends.items()}


def _short(model: str) -> str:
    where, _, factory = model.rpartition(":")
    return f"{Path(where).name}:{factory}"
