"""An attack's score against the rounds of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from wireleak.lab.report.charts import style

# Narrow enough for a phone, where half of a wider chart would be out of sight.
LEAST = 340
_WIDTH, _HEIGHT, _KEY = 480, 260, 17


@dataclass(frozen=True)
class Course:
    """Scores of one setting: `(first round, last round, value, low, high)` of each window."""

    label: str
    points: tuple[tuple[int, int, float, float, float], ...]


@style.chart
def scores_by_round(courses: Sequence[Course], measure: str, chance: float | None) -> Figure:
    """Draw a line for each setting, with the 95 % interval of each window of rounds.

    Parameters
    ----------
    courses : sequence of Course
    measure : str
        Name of the score, for the axis.
    chance : float or None
        The score of guessing.
    """
    foot = 42 + _KEY * (len(courses) + (chance is not None))
    figure = style.new_figure(_WIDTH, _HEIGHT + foot)
    axes = style.place(figure, 44, 8, 10, foot)
    every = [end for course in courses for *_, value, low, high in course.points for end in (value, low, high)]
    bottom, top, ticks = style.round_axis(every, chance)
    axes.set_ylim(bottom, top)
    axes.set_yticks(ticks)
    axes.set_xlim(0, max(last for course in courses for _, last, *_ in course.points) * 1.02)
    axes.grid(True, axis="y")
    axes.set_xlabel("round")
    axes.set_ylabel(measure)
    handles, labels = [], [course.label for course in courses]
    for number, course in enumerate(courses):
        first, last, value, low, high = (np.array(column, float) for column in zip(*course.points, strict=True))
        # Whiskers of the same window stand beside each other.
        middle = (first + last) / 2 + (number - (len(courses) - 1) / 2) * (last - first) / 16
        said = [f"{course.label}, rounds {begin} to {end}: {score:.2f}" for begin, end, score, *_ in course.points]
        handles.append(style.curve(axes, number, middle, value, said, (low, high)))
    if chance is not None:
        handles.append(axes.axhline(chance, color=style.GREY, linewidth=1, dashes=(2, 2)))
        labels.append("chance")
    style.legend(figure, handles, labels)
    return figure
