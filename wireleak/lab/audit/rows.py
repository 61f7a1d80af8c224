"""An audit's result as rows, one a cut, and the verdict that compares them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from wireleak.common.measures import PERCENT, quantity
from wireleak.common.targets.input import Input
from wireleak.lab.audit.cost import Cost
from wireleak.lab.audit.readings import AttributeInformation, WordsRead
from wireleak.lab.audit.subject import Audited
from wireleak.lab.report.boards import BLIND, Board, SeedMean, boards, compare, error_removed
from wireleak.lab.report.formatting import size
from wireleak.lab.run.results import Results

# Rows that count as attackers: the attack and two simple readers of the wire; the strongest is shown.
_ATTACKERS = ("", "ridge", "nearest")


@dataclass(frozen=True)
class Reconstruction:
    """The strongest reconstruction of a cut: whose, its score, and what the prior and the linear decoder score.

    The score is the MSE beside the mean image's, of texts the words found beside the commonest ones.
    """

    by: str
    score: SeedMean
    prior: float
    ridge: float | None

    @property
    def is_text(self) -> bool:
        """Whether words were guessed."""
        return self.score.measure == "words-found"

    @property
    def explained(self) -> float:
        """Share of the prior's error that it removes, 0 to 1: 0 is what was known without the wire."""
        return _share(error_removed(self.score.measure, self.score.value, self.prior))


@dataclass(frozen=True)
class AttributeLeak:
    """How well a probe tells one attribute; `prior` is what is known without the activation, chance at least."""

    name: str
    auc: SeedMean
    prior: float
    permuted: float | None
    information: AttributeInformation | None

    @property
    def gained(self) -> float:
        """How far the AUC goes from the prior to certainty, 0 to 1."""
        return _share((self.auc.value - self.prior) / (1 - self.prior)) if self.prior < 1 else 0.0


@dataclass(frozen=True)
class CutRow:
    """All that an audit says of one cut; `sent` is what one inference really took on the wire, in bytes."""

    cut: int
    block: str
    cost: Cost
    sent: float
    accuracy: float
    majority: float
    reconstruction: Reconstruction | None
    words: WordsRead | None
    attributes: tuple[AttributeLeak, ...]

    @property
    def title(self) -> str:
        """How sentences name it."""
        return f"Cut {self.cut} (after {self.block})"

    @cached_property
    def leakage(self) -> float:
        """Mean of what is explained of the input and gained of words and attributes: 0 nothing, 1 everything."""
        parts = [self.reconstruction.explained] if self.reconstruction else []
        parts += [self.words.gained] if self.words else []
        parts += [one.gained for one in self.attributes]
        return float(np.mean(parts)) if parts else math.nan

    @property
    def scores(self) -> dict[str, SeedMean]:
        """The scores behind `leakage`, by what was guessed."""
        found = {"input": self.reconstruction.score} if self.reconstruction else {}
        return found | {one.name: one.auc for one in self.attributes}


def cut_rows(audited: Audited, results: Results) -> list[CutRow]:
    """One row a cut, from a run's results."""
    subject, every = audited.subject, boards(results.rows)
    rows = []
    for cut in subject.cuts:
        variant = f"cut-{cut}"
        tasks = [task for task in results.tasks if task.variant == variant and task.measure == "accuracy"]
        mine = [board for board in every if board.variant == variant]
        wires = [wire for wire in results.wires if (wire.variant, wire.link_name) == (variant, "serve-victim")]
        victims = results.disjoint.parts["victims"]
        rows.append(
            CutRow(
                cut=cut,
                block=subject.block(cut),
                cost=subject.costs[cut],
                sent=float(np.mean([wire.bytes_up for wire in wires])) / victims,
                accuracy=float(np.mean([task.value for task in tasks])),
                majority=float(np.mean([task.majority for task in tasks])),
                reconstruction=_strongest([board for board in mine if board.target == Input.name]),
                words=audited.readings.words.get(cut),
                attributes=tuple(
                    _attribute(board, audited.readings.information.get((cut, board.target)))
                    for board in mine
                    if board.get("auc") is not None
                ),
            )
        )
    return rows


def _strongest(found: Sequence[Board]) -> Reconstruction | None:
    name_of = next((name for name in BLIND if any(one.get(name) for one in found)), "mse")
    scored = [
        (name or board.attack, score) for board in found for name in _ATTACKERS if (score := board.get(name_of, name))
    ]
    priors = [score for board in found if (score := board.get(name_of, BLIND[name_of]))]
    if not scored or not priors:
        return None
    sign = -1 if quantity(name_of).higher_leaks else 1
    by, best = min(scored, key=lambda one: sign * one[1].value)
    ridge = next((score.value for board in found if (score := board.get(name_of, "ridge"))), None)
    return Reconstruction(by, best, priors[0].value, ridge)


def _attribute(board: Board, information: AttributeInformation | None) -> AttributeLeak:
    auc = board.get("auc")
    assert auc is not None
    beside = {name: score.value for name in board.names if name and (score := board.get("auc", name))}
    prior = max(0.5, beside.get("conditional-majority", 0.5))
    return AttributeLeak(board.target, auc, prior, beside.get("permuted"), information)


def verdict(rows: Sequence[CutRow]) -> list[str]:
    """Which cut leaks least and at which cost, in sentences made by rule."""
    scored = [row for row in rows if not math.isnan(row.leakage)]
    if not scored:
        return ["Nothing was attacked: there is neither an attack on the input nor a private attribute."]
    least = min(scored, key=lambda row: row.leakage)
    others = [row for row in scored if row is not least]
    lines = [
        f"{least.title}{' leaks least' if others else ''}: {_what(least)}. "
        f"There the device holds {count(least.cost.parameters)} parameters, "
        f"spends {count(least.cost.flops)} FLOPs and sends {count(least.cost.floats)} floats "
        f"({size(least.cost.bytes)}) an inference, and the task's accuracy is {percent(least.accuracy)}"
        + (f" (best of all cuts: {percent(max(row.accuracy for row in rows))})." if others else ".")
    ]
    alike = [row for row in others if not any(_leakier(row, least)) and bool(row.words) == bool(least.words)]
    if any(row.words for row in rows) and not least.words:
        lines.append(
            "Where one vector a word crosses, words were read off at their place by the nearest of the attacker's own; "
            "where they are mixed, as here, only which words a text holds was guessed."
        )
    if alike:
        named = ", ".join(f"cut {row.cut}" for row in alike)
        lines.append(f"By these intervals it cannot be told from {named}; more seeds or victims may tell them apart.")
    for name in least.scores:
        order = least.scores[name].measure != "mse"
        better = [row for row in others if name in row.scores and _beats(row.scores[name], least.scores[name], order)]
        if better:
            lines.append(f"Of {'the input' if name == 'input' else name} alone, {better[0].title} gives away less.")
    return lines


def _beats(score: SeedMean, other: SeedMean, higher_leaks: bool) -> bool:
    less = score.value < other.value if higher_leaks else score.value > other.value
    return less and compare(other, score) == "better"


def _leakier(row: CutRow, least: CutRow) -> list[bool]:
    return [compare(score, least.scores[name]) == "better" for name, score in row.scores.items()]


def _what(row: CutRow) -> str:
    parts = []
    if one := row.reconstruction:
        verb, what = ("finds", "words that the commonest leave") if one.is_text else ("explains", "inputs' variance")
        parts.append(f"the best reconstruction ({one.by}) {verb} {percent(one.explained)} of the {what}")
    if row.words:
        parts.append(
            f"{percent(row.words.share)} of the words are read (commonest word: {percent(row.words.majority)})"
        )
    parts += [f"{one.name} is told with AUC {one.auc.written} {one.auc.interval}".strip() for one in row.attributes]
    return ", ".join(parts)


def count(number: float) -> str:
    """A number with a unit of thousands, as people read it."""
    for unit in ("", " k", " M", " G"):
        if abs(number) < 1000 or unit == " G":
            return f"{number:.0f}{unit}" if not unit or abs(number) >= 100 else f"{number:.1f}{unit}"
        number /= 1000
    raise AssertionError("unreachable")


def percent(share: float) -> str:
    """A share as a percentage."""
    return f"{share * 100:.1f}{PERCENT}"


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)
