"""Comparison of this run's scores with published ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wireleak.common.measures import quantity
from wireleak.lab.report.boards import boards
from wireleak.lab.run.results import Results
from wireleak.lab.study.tables import Published

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class PublishedScore:
    """A published score and ours as text; ours has its interval, or is "–" where it was not measured."""

    variant: str
    attack: str
    measure: str
    ours: str
    theirs: str
    source: str


def published_scores(results: Results, titles: dict[str, str]) -> list[PublishedScore]:
    """Return every published score that the study names, with this run's score."""
    return [
        PublishedScore(
            titles[one.variant],
            one.attack or "the main task",
            quantity(one.measure).label,
            _ours(results, one),
            f"{quantity(one.measure).write(one.value)} {quantity(one.measure).unit}".strip(),
            one.source,
        )
        for one in results.published
    ]


def published_table(results: Results, titles: dict[str, str]) -> Table:
    """Return the comparison with published scores for the terminal."""
    from rich import box
    from rich.table import Table

    table = Table(title="comparison with published scores", title_justify="left", box=box.HORIZONTALS, padding=0)
    for column in ("variant", "attack", "measure", "ours [95 %]", "published", "source"):
        table.add_column(column, overflow="fold")
    for one in published_scores(results, titles):
        table.add_row(one.variant, one.attack, one.measure, one.ours, one.theirs, one.source)
    return table


def _ours(results: Results, figure: Published) -> str:
    if not figure.attack:
        values = [one.value for one in results.tasks if (one.variant, one.measure) == (figure.variant, figure.measure)]
        return quantity(figure.measure).write(sum(values) / len(values)) if values else "–"
    wanted = figure.variant, figure.attack, figure.target
    board = next((one for one in boards(results.rows) if (one.variant, one.attack, one.target) == wanted), None)
    score = board.get(figure.measure) if board else None
    return f"{score.written} {score.interval}".strip() if score else "–"
