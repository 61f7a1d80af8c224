"""How often a study's own rule calls a leak of a given size a leak, from simulated runs without training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.statistics.bootstrap import KEPT
from wireleak.common.measures.statistics.power import POWER
from wireleak.common.targets.attribute import CONDITIONAL
from wireleak.common.targets.target import PERMUTED, RESAMPLED
from wireleak.lab.power.design import Design
from wireleak.lab.report.boards import boards
from wireleak.lab.report.verdicts import beats_priors
from wireleak.lab.run.results import Row

Doubles = npt.NDArray[np.float64]
RUNS = 100
# Assumptions, which `wireleak power` prints.
SEED_SPREAD = 0.01
WITHIN_PERSON = 0.5
_PERMUTATIONS = 20
_SAMPLES = 200
_MOST_SEEDS, _MOST_TIMES = 40, 64


@dataclass(frozen=True)
class Power:
    """What a design resolves.

    Parameters
    ----------
    smallest : float
        Smallest value of the measure that is called a leak with probability 0.8; NaN where none is.
    probability : float
        Probability that the wanted effect is called a leak.
    seeds, victims : int or None
        Seeds, or victims of each seed, that the wanted effect needs; None where no tried number is enough.
    """

    smallest: float
    probability: float
    seeds: int | None
    victims: int | None


def power(design: Design, effect: float, tick: Callable[[], None] = lambda: None) -> Power:
    """Return what a design resolves, and what the wanted effect needs; `tick` is called after each simulation."""

    def holds(other: Design, wanted: float = effect) -> bool:
        tick()
        return resolves(other, wanted)

    probability = shown(design, effect)
    tick()
    low, high = max(chance(design), design.known), 1.0
    smallest = math.nan
    if holds(design, high):
        for _ in range(7):
            middle = (low + high) / 2
            low, high = (low, middle) if holds(design, middle) else (middle, high)
        smallest = high
    if probability >= POWER:
        return Power(smallest, probability, design.seeds, design.victims)
    if effect <= design.known:
        return Power(smallest, probability, None, None)
    seeds = _least(lambda count: holds(design.resized(seeds=count)), max(design.seeds, 3), _MOST_SEEDS)
    grown = [round(design.victims * 2 ** (step / 2)) for step in range(1, 2 * round(math.log2(_MOST_TIMES)) + 1)]
    victims = next((count for count in grown if holds(design.resized(victims=count))), None)
    return Power(smallest, probability, seeds, victims)


def chance(design: Design) -> float:
    """Return the score of guessing."""
    return 0.5 if design.measure == "auc" else 1 / min(design.victims, 1000)


def shown(design: Design, effect: float, runs: int = RUNS) -> float:
    """Return the share of simulated runs in which the report's own rule says "Leaks" of a leak of this size."""
    return sum(itertools.islice(_outcomes(design, effect), runs)) / runs


def resolves(design: Design, effect: float) -> bool:
    """Return whether a leak of this size is shown with probability 0.8; ends as soon as the answer is certain."""
    wanted, hits = math.ceil(POWER * RUNS), 0
    for done, hit in enumerate(_outcomes(design, effect), 1):
        hits += hit
        if hits >= wanted or done - hits > RUNS - wanted:
            break
    return hits >= wanted


def _outcomes(design: Design, effect: float) -> Iterator[bool]:
    """Yield whether the report's own rule says "Leaks" of each of endless simulated runs."""
    rng = np.random.default_rng(0)  # the same for every effect, so that the share rises with it
    made = _aucs(design, effect, rng) if design.measure == "auc" else _hits(design, effect, rng)
    return (_leaks(design, run) for run in made)


Run = dict[str, tuple[Doubles, Doubles]]


def _leaks(design: Design, run: Run) -> bool:
    """Judge one run: each name's values (seeds,) and resamples (seeds, resamples)."""
    rows = []
    for name, (values, draws) in run.items():
        ends = np.quantile(draws, (0.025, 0.975), axis=1)
        if name == PERMUTED:
            # One seed's interval is that over permutations, while fewer of them are resampled.
            ends = values + (ends - values) * math.sqrt(RESAMPLED / _PERMUTATIONS)
        for seed, value in enumerate(values):
            rows.append(
                Row(
                    study="power",
                    variant="",
                    seed=seed,
                    link="plaintext",
                    vantage="",
                    attack="",
                    target=design.targets[0] if design.targets else "",
                    measure=design.measure,
                    value=float(value),
                    low=float(ends[0, seed]),
                    high=float(ends[1, seed]),
                    n=design.victims,
                    chance=chance(design),
                    role="baseline" if name else "attack",
                    name=name,
                ).drawn(draws[seed])
            )
    (board,) = boards(rows)
    return beats_priors(board, design.measure)


def _aucs(design: Design, effect: float, rng: np.random.Generator) -> Iterator[Run]:
    """Yield simulated AUCs of the attack, and of its baselines.

    They are an attack that learnt from permuted labels, the mean of 20, and the majority given the task label, if that
    tells something. Its error is drawn independently; in a run it is shared in part, which makes leaks easier to show.
    """
    own, blind = _error(design, round(effect, 4)), _error(design, 0.5) / math.sqrt(_PERMUTATIONS)
    moved = _error(design, 0.5) / math.sqrt(RESAMPLED)
    told = _error(design, design.known) if design.known else 0.0
    parts = np.sqrt([design.common, 1 - design.common])
    size = (design.seeds, 1 + KEPT)
    while True:
        # Seeds share some of their victims, so that part of their errors is the same; so it is of their resamples.
        errors = parts[0] * rng.standard_normal((1, 1 + KEPT)) + parts[1] * rng.standard_normal(size)
        values = effect + SEED_SPREAD * rng.standard_normal(design.seeds) + own * errors[:, 0]
        permuted = 0.5 + blind * rng.standard_normal(design.seeds)
        run = {
            "": (values, values[:, None] + own * errors[:, 1:]),
            PERMUTED: (permuted, permuted[:, None] + moved * rng.standard_normal((design.seeds, KEPT))),
        }
        if design.known:
            others = parts[0] * rng.standard_normal((1, 1 + KEPT)) + parts[1] * rng.standard_normal(size)
            majority = design.known + told * others[:, 0]
            run[CONDITIONAL] = (majority, majority[:, None] + told * others[:, 1:])
        yield run


def _hits(design: Design, effect: float, rng: np.random.Generator) -> Iterator[Run]:
    """Yield simulated re-identification of the attack, and of one that is given other victims' activations."""
    n, seeds = design.persons or design.victims, design.seeds
    while True:
        found = {}
        for name, rate in (("", min(effect, 1.0)), ("shuffled", chance(design))):
            values = rng.binomial(n, rate, seeds) / n
            found[name] = (values, rng.binomial(n, values[:, None], (seeds, KEPT)) / n)
        yield found


@lru_cache(maxsize=512)
def _error(design: Design, effect: float) -> float:
    """Return the standard error of one seed's AUC, from simulated scores.

    A score is normal, and shifted for the rarer class so that its AUC is `effect`. Half of its variance belongs to the
    person, where the design has persons.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    rng = np.random.default_rng(1)
    shift = math.sqrt(2) * float(ndtri(min(effect, 0.9999)))
    n, persons = design.victims, design.persons or design.victims
    person = np.arange(n) % persons
    found = []
    for _ in range(_SAMPLES):
        of_person = rng.permutation(persons) < max(1, round(design.share * persons))
        label = of_person[person] if design.constant or design.persons is None else rng.random(n) < design.share
        positives = int(label.sum())
        if not 0 < positives < n:
            continue
        noise = rng.standard_normal(n)
        if design.persons is not None:
            mixed = math.sqrt(WITHIN_PERSON) * rng.standard_normal(persons)[person]
            noise = mixed + math.sqrt(1 - WITHIN_PERSON) * noise
        ranks = rankdata(noise + shift * label)
        found.append((ranks[label].sum() - positives * (positives + 1) / 2) / (positives * (n - positives)))
    # The AUC of several classes is the mean of one against the rest for each.
    return float(np.std(found)) / math.sqrt(max(design.classes - 1, 1)) if found else math.inf


def _least(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """Return the least number from `low` to `high` for which a condition holds that stays true above it."""
    if not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return high
