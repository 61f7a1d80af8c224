"""An audit's results, one row for each cut, and the verdict that compares them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from wireleak.common.measures import PERCENT, quantity
from wireleak.common.targets.input import Input
from wireleak.lab.audit.cost import Cost
from wireleak.lab.audit.readings import AttributeInformation, CutReading, WordsRead
from wireleak.lab.audit.subject import Audited
from wireleak.lab.report import verdicts
from wireleak.lab.report.boards import BLIND, Board, SeedMean, boards, compare, error_removed
from wireleak.lab.report.findings import finding
from wireleak.lab.report.formatting import size
from wireleak.lab.report.verdicts import TAGS, Outcome, Verdict
from wireleak.lab.run.results import Results

# Rows that count as attackers: the attack and two simple readers of the wire. The strongest is shown.
_ATTACKERS = ("", "ridge", "nearest")
# Words read beyond the commonest word's share that count as a leak.
_WORDS_ABOVE = 0.05
NOT_ATTACKED = "Not attacked"


@dataclass(frozen=True)
class Reconstruction:
    """The strongest reconstruction of a cut: its attacker and score, and the scores of the prior and linear decoder.

    The score is the MSE, with the mean image as prior; for texts, the words found, with the commonest words as prior.
    `reid` is the highest share of victims that any reader of the wire re-identifies, which may be another reader.
    """

    by: str
    score: SeedMean
    prior: float
    ridge: float | None
    reid: SeedMean | None = None

    @property
    def is_text(self) -> bool:
        """Whether the score counts words of texts."""
        return self.score.measure == "words-found"

    @property
    def explained(self) -> float:
        """Share of the prior's error that the reconstruction removes, 0 to 1."""
        return _share(error_removed(self.score.measure, self.score.value, self.prior))

    @property
    def identified(self) -> float:
        """How far re-identification goes from chance to certainty, 0 to 1."""
        chance = self.reid.chance if self.reid else None
        return _share((self.reid.value - chance) / (1 - chance)) if self.reid and chance is not None else 0.0

    @property
    def leakage(self) -> float:
        """The larger of both shares: pixels and identity leak separately."""
        return max(self.explained, self.identified)

    @property
    def shown(self) -> str:
        """The larger of both shares, in words."""
        if self.reid is not None and self.identified > self.explained:
            return f"{self.reid.written} of the victims re-identified"
        return f"{percent(self.explained)} of the input"


@dataclass(frozen=True)
class AttributeLeak:
    """A probe's score on one attribute; `prior` is the AUC without the activation, at least chance."""

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
    """The results of one cut.

    `sent` is the size of one inference on the wire, in bytes; `verdict` is that on its strongest reader;
    `skipped` names attacks that did not run, with reasons; `stopped`, how far others came that ended early. `survey` is
    the cheap reading in process.
    """

    cut: int
    block: str
    cost: Cost
    sent: float
    accuracy: float
    majority: float
    reconstruction: Reconstruction | None
    words: WordsRead | None
    attributes: tuple[AttributeLeak, ...]
    verdict: Verdict | None
    skipped: tuple[tuple[str, str], ...] = ()
    stopped: tuple[tuple[str, str], ...] = ()
    survey: CutReading | None = None

    @property
    def tag(self) -> str:
        """The verdict in a few words, as in a run's report."""
        return NOT_ATTACKED if self.verdict is None else self.verdict.tag

    @property
    def outcome(self) -> Outcome | None:
        """The verdict's outcome."""
        return None if self.verdict is None else self.verdict.outcome

    @property
    def title(self) -> str:
        """Name of the cut in sentences."""
        return f"Cut {self.cut} (after {self.block})"

    @cached_property
    def leakage(self) -> float:
        """Mean of the shares of input, words and attributes that leak: 0 nothing, 1 everything."""
        # Where no attack on the input ran, the cheap reading counts: a cut is not better for want of an attack.
        read = self.reconstruction or self.survey
        parts = [read.leakage] if read else []
        parts += [self.words.gained] if self.words else []
        parts += [one.gained for one in self.attributes]
        return float(np.mean(parts)) if parts else math.nan

    @property
    def shown(self) -> list[SeedMean]:
        """All scores that tables show of this cut."""
        read = [self.reconstruction.score, self.reconstruction.reid] if self.reconstruction else []
        return [score for score in (*read, *(leak.auc for leak in self.attributes)) if score is not None]

    @property
    def mark(self) -> str:
        """The mark of a cut of which an attacker read less than was promised, else ""."""
        return next((score.mark for score in self.shown if score.mark), "")

    @property
    def scores(self) -> dict[str, SeedMean]:
        """The scores behind `leakage`, by target."""
        found = {"input": self.reconstruction.score} if self.reconstruction else {}
        return found | {one.name: one.auc for one in self.attributes}


def cut_rows(audited: Audited, results: Results) -> list[CutRow]:
    """Return one row for each cut, from a run's results."""
    subject, every = audited.subject, boards(results.rows)
    rows = []
    for cut in subject.cuts:
        variant = f"cut-{cut}"
        tasks = [task for task in results.tasks if task.variant == variant and task.measure == "accuracy"]
        mine = [board for board in every if board.variant == variant]
        wires = [wire for wire in results.wires if (wire.variant, wire.link_name) == (variant, "serve-victim")]
        victims = results.disjoint.parts["victims"]
        if not tasks or not wires:  # its capture did not begin in time
            continue
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
                verdict=judged(mine, audited.readings.words.get(cut), audited.survey.get(cut)),
                skipped=tuple(audited.skipped.get(cut, {}).items()),
                stopped=tuple(audited.stopped.get(cut, {}).items()),
                survey=audited.survey.get(cut),
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
    named = [score for board in found for name in _ATTACKERS if (score := board.get("reid", name))]
    return Reconstruction(by, best, priors[0].value, ridge, max(named, key=lambda one: one.value, default=None))


def judged(found: Sequence[Board], words: WordsRead | None, survey: CutReading | None) -> Verdict | None:
    """Return the gravest verdict on any reader of a cut: attacks, the linear decoder, the nearest neighbour.

    The cheap reading counts where none of them has read inputs off the wire.
    """
    shown: list[Verdict] = [gravest(found)] if found else []
    if words is not None and words.share > words.majority + _WORDS_ABOVE:
        shown.append(verdicts.leak())
    unread = not any(board.target == Input.name for board in found)
    if unread and survey is not None and survey.outcome != "open":
        shown.append(verdicts.leak(survey.outcome))
    return verdicts.gravest(shown) if shown else None


def gravest(found: Sequence[Board]) -> Verdict:
    """Return the gravest verdict on any attack of these boards, or on any simple reader in its place."""
    return verdicts.gravest(finding(read, "").verdict for board in found for read in _readers(board))


def _readers(board: Board) -> Iterator[Board]:
    """Yield a board for the attack, and one for each simple reader in the attack's place."""
    baselines = tuple(score for score in board.scores if score.role == "baseline")
    for name in _ATTACKERS:
        own = [replace(score, name="", role="attack") for score in board.scores if score.name == name]
        if own:
            yield replace(board, scores=(*own, *baselines))


def _attribute(board: Board, information: AttributeInformation | None) -> AttributeLeak:
    auc = board.get("auc")
    assert auc is not None
    others = {name: score.value for name in board.names if name and (score := board.get("auc", name))}
    prior = max(0.5, others.get("conditional-majority", 0.5))
    return AttributeLeak(board.target, auc, prior, others.get("permuted"), information)


def verdict(rows: Sequence[CutRow], doubts: Sequence[str] = ()) -> list[str]:
    """Return sentences, made by rule, that name the cut with the least leakage, its costs, and whether it leaks.

    With doubts about the network, or where the verdict on that cut is not resolved, nothing is recommended.
    """
    if not rows:
        return [*doubts, "No cut was served, so nothing is recommended. Use a longer --budget."]
    scored = [row for row in rows if not math.isnan(row.leakage)]
    if not scored:
        return [*doubts, "Nothing was attacked: the data has no private attribute, and no attack on the input ran."]
    least = min(scored, key=lambda row: row.leakage)
    others = [row for row in scored if row is not least]
    if doubts:
        return [*doubts, f"No cut is recommended. {_absolute(scored)}"]
    unresolved = least.outcome in ("open", None)
    lines = [
        f"{'No cut is recommended. ' if unresolved else ''}"
        f"{least.title}{' leaks least' if others and not unresolved else ''}: {_leaked(least)}. "
        f"The device stores {count(least.cost.parameters)} parameters, "
        f"spends {count(least.cost.flops)} FLOPs and sends {count(least.cost.floats)} floats "
        f"({size(least.cost.bytes)}) per inference; the task's accuracy is {percent(least.accuracy)}"
        + (f" (best of all cuts: {percent(max(row.accuracy for row in rows))})." if others else "."),
        _absolute(scored),
    ]
    if least.verdict is None:
        lines.append(f"{least.title} has the lowest cheap reading, but nothing has attacked it. Use a longer --budget.")
    elif unresolved:
        lines.append(
            f"{least.title} has the lowest leakage in this sample, but whether it leaks is not resolved. "
            f"{least.verdict.resolution} Use more seeds or victims.".replace("  ", " ")
        )
    alike = [row for row in others if _alike(row, least)]
    if any(row.words for row in rows) and not least.words:
        lines.append(
            "At cuts that send one vector for each word, each word was read as the attacker's word with the nearest "
            "vector. This cut mixes the vectors, so attacks guessed only which words a text contains."
        )
    if alike:
        named = ", ".join(f"cut {row.cut}" for row in alike)
        lines.append(f"These intervals do not distinguish it from {named}; more seeds or victims may.")
    for name in least.scores:
        order = least.scores[name].measure != "mse"
        better = [row for row in others if name in row.scores and _beats(row.scores[name], least.scores[name], order)]
        if better:
            lines.append(f"For {'the input' if name == 'input' else name} only, {better[0].title} leaks less.")
    return lines


def _absolute(rows: Sequence[CutRow]) -> str:
    """Return which cuts leak at all, by their strongest reader."""
    if all(row.outcome == "leak" for row in rows):
        return "Every cut leaks." if len(rows) > 1 else "It leaks."
    order = list(TAGS)
    ranked = sorted(rows, key=lambda row: order.index(row.outcome) if row.outcome else len(order))
    named = {tag: [row for row in rows if row.tag == tag] for tag in dict.fromkeys(row.tag for row in ranked)}
    parts = [f"{tag}: {_cuts(found)}" for tag, found in named.items()]
    quiet = any(row.verdict is not None and row.verdict.silent for row in rows)
    silent = " That an attack found nothing does not prove that a better one would." if quiet else ""
    return f"{'; '.join(parts)}.{silent}"


def _cuts(rows: Sequence[CutRow]) -> str:
    return f"cut{'s' if len(rows) > 1 else ''} {', '.join(str(row.cut) for row in rows)}"


def _beats(score: SeedMean, other: SeedMean, higher_leaks: bool) -> bool:
    less = score.value < other.value if higher_leaks else score.value > other.value
    return less and compare(other, score) == "better"


def _alike(row: CutRow, least: CutRow) -> bool:
    """Return whether no interval of what was attacked at both cuts distinguishes them."""
    if row.scores.keys() != least.scores.keys() or bool(row.words) != bool(least.words):
        return False
    return bool(row.scores) and all(compare(row.scores[name], own) != "better" for name, own in least.scores.items())


def _leaked(row: CutRow) -> str:
    parts = []
    if one := row.reconstruction:
        verb, share_of = (
            ("finds", "words that the commonest words miss") if one.is_text else ("explains", "inputs' variance")
        )
        parts.append(f"the best reconstruction ({one.by}) {verb} {percent(one.explained)} of the {share_of}")
        if one.reid is not None and one.reid.chance is not None:
            parts.append(f"{one.reid.written} of the victims are re-identified (chance {percent(one.reid.chance)})")
    elif row.survey is not None:
        parts.append(f"{row.survey.basis}, explains {percent(row.survey.explained)} of the inputs' variance")
    if row.words:
        parts.append(
            f"{percent(row.words.share)} of the words are read (commonest word: {percent(row.words.majority)})"
        )
    parts += [
        f"{one.name} is predicted with AUC {one.auc.written} {one.auc.interval}".strip() for one in row.attributes
    ]
    return ", ".join(parts)


def count(number: float) -> str:
    """Return a number as text, in thousands, millions or billions."""
    for unit in ("", " k", " M", " G"):
        if abs(number) < 1000 or unit == " G":
            return f"{number:.0f}{unit}" if not unit or abs(number) >= 100 else f"{number:.1f}{unit}"
        number /= 1000
    raise AssertionError("unreachable")


def percent(share: float) -> str:
    """Return a share as a percentage."""
    return f"{share * 100:.1f}{PERCENT}"


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)
