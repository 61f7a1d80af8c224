"""The findings of a run as sentences, made by rule from scores and their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wireleak.common.measures import PERCENT, quantity
from wireleak.common.references import LIKELIEST, reference
from wireleak.common.threat import attacker_at
from wireleak.lab.report import verdicts
from wireleak.lab.report.boards import Board, SeedMean, above_chance, boards, compare, error_removed
from wireleak.lab.report.formatting import duration
from wireleak.lab.report.verdicts import Outcome, Verdict, beats_priors
from wireleak.lab.run.results import Results


@dataclass(frozen=True)
class Finding:
    """One sentence about one attack on one target; `detail` compares the attack with other readers and bounds."""

    verdict: Verdict
    where: str
    text: str
    detail: tuple[str, ...] = ()

    @property
    def tag(self) -> str:
        """The verdict in a few words."""
        return self.verdict.tag

    @property
    def outcome(self) -> Outcome:
        """The verdict's outcome."""
        return self.verdict.outcome


def titles(results: Results) -> dict[str, str]:
    """Return each variant's title; a title that several variants share gets the variant's name in brackets."""
    found = {one.name: one.title or _title(one.cut, one.mode, one.link) for one in results.variants}
    shared = {title for title in found.values() if list(found.values()).count(title) > 1}
    known = {name: f"{title} ({name})" if title in shared else title for name, title in found.items()}
    return known | {row.variant: row.variant for row in results.rows if row.variant not in known}


def _title(cut: int, mode: str, link: str) -> str:
    return f"Cut {cut}" + (", federated" if mode == "federated" else "") + (", TLS" if link == "tls" else "")


def findings(results: Results) -> list[Finding]:
    """Return a run's findings in the study's order of variants; those under TLS come last, negative ones merged."""
    names = titles(results)
    order = list(names)
    found = sorted(boards(results.rows), key=lambda one: order.index(one.variant))
    several = len({board.vantage for board in found}) > 1
    plain = [finding(board, names[board.variant], several) for board in found if board.link != "tls"]
    tls = [finding(board, names[board.variant], several) for board in found if board.link == "tls"]
    silent = [one for one in tls if one.verdict.silent]
    if len(silent) < 2:
        return plain + tls
    text = f"None of {len(silent)} attacks is shown to learn more than is known without the traffic."
    details = tuple(f"{one.where}: {one.tag}. {one.text}" for one in silent)
    merged = Finding(verdicts.gravest(one.verdict for one in silent), "Under TLS", text, details)
    return [*plain, *(one for one in tls if not one.verdict.silent), merged]


def finding(board: Board, title: str, name_vantage: bool = False) -> Finding:
    """Return the finding of one board.

    Reconstructions are judged by MSE and by re-identification separately. A low MSE with re-identification at chance
    shows only prior knowledge; a high MSE may still reveal whose input it was.
    """
    kinds = (("mse", _reconstruction), ("words-found", _text), ("exposure", _exposure))
    judge = next((judge for name, judge in kinds if board.get(name)), _attribute)
    verdict, text = judge(board)
    vantage = f", by {attacker_at(board.vantage)}" if name_vantage else ""
    where = f"{title} · {board.target} by {board.attack}{vantage}"
    said = " ".join(filter(None, (f"{text[0].upper()}{text[1:]}", verdict.resolution)))
    return Finding(verdict, where, said, _detail(board))


def _reconstruction(board: Board) -> tuple[Verdict, str]:
    closer, named = beats_priors(board, "mse"), beats_priors(board, "reid")
    removed = _error_removed(board)
    verb = "rebuilds inputs faintly" if removed is not None and removed < 0.5 else "rebuilds inputs"
    mse, identity = _against(board, "mse"), board.get("reid")
    if closer and removed is not None:
        mse += f" ({removed * 100:.0f}{PERCENT} of the mean image's error removed)"
    if identity is None:
        if closer:
            return verdicts.leak(), f"{verb}: {mse}."
        return verdicts.silent(board, ("mse",)), f"is not shown to rebuild inputs: {mse}."
    known = f"re-identifies {_with_interval(identity)} of them{_among(identity)}"
    if closer and named:
        return verdicts.leak(), f"{verb}: {mse}; {known}."
    if closer:
        return verdicts.leak("part"), f"gets closer to the inputs, but cannot tell one from another: {mse}; {known}."
    if named:
        return verdicts.leak("part"), f"does not rebuild inputs ({mse}), yet can tell them apart: {known}."
    return verdicts.silent(board, ("mse", "reid")), f"is not shown to rebuild inputs: {mse}; {known}."


def _error_removed(board: Board) -> float | None:
    """Return 1 - MSE / MSE of the mean image: the fraction of the variance that the reconstruction explains."""
    own, mean = board.get("mse"), board.get("mse", "mean")
    return error_removed("mse", own.value, mean.value) if own and mean and mean.value > 0 else None


def _text(board: Board) -> tuple[Verdict, str]:
    found, placed = _against(board, "words-found"), _against(board, "words")
    if beats_priors(board, "words"):
        return verdicts.leak(), f"rebuilds texts: {placed}; {found}."
    if beats_priors(board, "words-found"):
        return verdicts.leak("part"), f"finds words of the texts, but not their positions: {found}; {placed}."
    return verdicts.silent(board, ("words-found",)), f"is not shown to find the texts' words: {found}."


def _exposure(board: Board) -> tuple[Verdict, str]:
    times, most = board.target.rpartition("-")[2], board.get("exposure", LIKELIEST)
    planted = "a number planted once" if times == "1" else f"numbers planted {times} times"
    limit = f", of {most.written} bits at most" if most else ""
    score = board.get("exposure")
    if score is not None and math.isnan(score.low):
        measured = f"{planted}: {quantity('exposure').label} {score.written}{limit}"
        return Verdict("open"), f"gives no verdict on {measured}; one number with one seed has no interval."
    if beats_priors(board, "exposure"):
        return verdicts.leak(), f"exposes {planted}: {_against(board, 'exposure')}{limit}."
    silent = verdicts.silent(board, ("exposure",))
    return silent, f"is not shown to expose {planted}: {_against(board, 'exposure')}{limit}."


def _attribute(board: Board) -> tuple[Verdict, str]:
    name = board.measures[0]
    if board.get(name) is None:
        return Verdict("open"), f"made no guess of {board.target}."
    if beats_priors(board, name):
        return verdicts.leak(), f"learns {board.target}: {_against(board, name)}."
    return verdicts.silent(board, (name,)), f"is not shown to learn {board.target}: {_against(board, name)}."


def _against(board: Board, name: str) -> str:
    """Compare the attack's score with the decisive baseline: one that it does not beat, else the strongest."""
    score, priors = board.get(name), board.priors(name)
    assert score is not None
    own = f"{quantity(name).label} {_with_interval(score)}"
    unbeaten = [prior for prior in priors if compare(score, prior) != "better"]
    worse = [prior for prior in unbeaten if compare(score, prior) == "worse"]
    if not priors and score.chance is None:
        return f"{own}, with no baseline to compare"
    if worse:
        return f"{own}, worse than {_named(worse[0])}"
    if unbeaten:
        return f"{own}, not clearly better than {_named(unbeaten[0])}"
    if not above_chance(score):
        return f"{own}, not clearly better than chance ({_level(score)})"
    return f"{own} against {_named(priors[0])}" if priors else f"{own} against a chance of {_level(score)}"


def _detail(board: Board) -> tuple[str, ...]:
    """Compare the attack with the other readers of the wire."""
    name = board.measures[0]
    score = board.get(name)
    if score is None:
        return ()
    words = {
        "better": "clearly worse than the attack",
        "overlap": "not distinguishable from the attack",
        "worse": "clearly better than the attack",
    }
    said = []
    for other in board.scores:
        if other.measure == name and other.role == "reader":
            verdict = words[compare(score, other)]
            said.append(f"{reference(other.name).label} {_with_interval(other)}: {verdict}")
    compared = (f"For comparison, by {quantity(name).label}: {'; '.join(said)}.",) if said else ()
    return compared + _bounds(board)


def _bounds(board: Board) -> tuple[str, ...]:
    """Compare the attack with its theoretical bounds."""
    said = []
    for other in board.scores:
        score = board.get(other.measure)
        if score is not None and other.role in ("bound", "quantile"):
            # Without an interval the value itself is compared.
            ends = np.nan_to_num([score.low, score.high], nan=score.value)
            beyond = ends[0] > other.value if quantity(other.measure).higher_leaks else ends[1] < other.value
            verdict = "exceeded by the attack" if beyond else "holds"
            said.append(f"{reference(other.name).label}, {quantity(other.measure).label} {other.written}: {verdict}")
    return (f"Bounds: {'; '.join(said)}.",) if said else ()


def _with_interval(score: SeedMean) -> str:
    return f"{score.written} {score.interval}".strip()


def _named(score: SeedMean) -> str:
    return f"{_with_interval(score)} for {reference(score.name).phrase}"


def _level(score: SeedMean) -> str:
    return quantity(score.measure).write(score.chance or 0.0)


def _among(score: SeedMean) -> str:
    if not score.chance:
        return ""
    level = f"chance {_level(score)}" if above_chance(score) else f"not clearly better than a chance of {_level(score)}"
    return f" among {1 / score.chance:.0f} ({level})"


def task_line(results: Results) -> str:
    """Return the range of the main task's accuracy over variants and seeds as a sentence, or "" if not measured."""
    tasks = [task for task in results.tasks if task.measure == "accuracy"]
    if not tasks:
        return ""
    values = [task.value for task in tasks]
    majority = max((task.majority for task in tasks if not math.isnan(task.majority)), default=math.nan)
    write = quantity("accuracy").write
    always = "" if math.isnan(majority) else f" (always guessing one class: {write(majority)})"
    spread = " to ".join(dict.fromkeys((write(min(values)), write(max(values)))))
    return f"The model's accuracy on its own task is {spread} on evaluation data{always}."


def shared_line(results: Results) -> str:
    """Return how much of their data two seeds have in common, as a sentence, or "" with one seed."""
    shares = results.disjoint.seeds_share
    if not shares:
        return ""
    said = [f"{share * 100:.0f}{PERCENT} of their {name}" if share else f"no {name}" for name, share in shares.items()]
    return f"Two seeds share {', '.join(said[:-1])} and {said[-1]}."


def run_line(results: Results) -> str:
    """Return seeds, run time and machine in one line."""
    seeds = sorted({row.seed for row in results.rows})
    plural = "seed" if len(seeds) == 1 else "seeds"
    machine = f" on {results.machine.cpus} CPU cores" if results.machine.cpus else ""
    return f"{plural} {', '.join(map(str, seeds)) or '–'} · {duration(results.seconds)}{machine}"
