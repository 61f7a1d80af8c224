"""Numbers that the lab plants in one client's text as an auditor would, and how exposed each turns out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wireleak.common.config import options_of
from wireleak.common.files import write_arrays
from wireleak.common.measures.statistics.bootstrap import mean_score
from wireleak.common.measures.statistics.score import Score
from wireleak.common.measures.statistics.secret_sharer import ExposedCanary, Planting, draw_canaries, exposures_among
from wireleak.lab.run.cell import Cell
from wireleak.lab.study.schema import Study, StudyError
from wireleak.lab.study.tables import Variant

CANARY = "canary"
UNPLANTED, MOST = "unplanted", "likeliest"
# Of a secret that the model never saw, whose rank is anywhere: the mean of -log2 U for U uniform on (0, 1).
CHANCE = 1 / math.log(2)
_UNPLANTED = 200


def plants(variant: Variant) -> bool:
    """Whether a client of this variant has planted numbers in its text."""
    return variant.participant is not None and variant.participant.name == CANARY


def planting(cell: Cell) -> Planting:
    """How often each number of a cell is planted, and of how many digits they are.

    Raises
    ------
    StudyError
        The cell has none.
    """
    if cell.variant.participant is None or not plants(cell.variant):
        raise StudyError(f'target: nobody plants numbers in {cell.name}; give it participant = {{ name = "{CANARY}" }}')
    return options_of(Planting, cell.variant.participant.options, f"variants.{cell.variant.name}.participant.options")


def check(study: Study) -> None:
    """Refuse to look for planted numbers where nobody plants any.

    Raises
    ------
    StudyError
        Names the attack and the variant.
    """
    for variant in study.variants:
        for use in study.attacks_on(variant):
            if CANARY in use.targets and not plants(variant):
                raise StudyError(
                    f"attacks.{use.shown}.variants: nobody plants numbers in {variant.name}; give it "
                    f'participant = {{ name = "{CANARY}" }}'
                )


def write(cell: Cell, path: Path) -> None:
    """Draw the cell's numbers by its seed and hand them to the client that plants them: `number`, int64 (k,)."""
    numbers = [int(digits) for digits in _drawn(cell)]
    write_arrays(path, {"number": np.array(numbers, np.int64)})


def exposure_scores(cell: Cell, perplexities: npt.NDArray[np.float32]) -> Iterator[tuple[str, str, Score]]:
    """Exposure of what was planted, by how often, beside that of numbers that never were.

    Parameters
    ----------
    cell : Cell
    perplexities : float32 (10 ** digits, 1)
        The attacker's log-perplexity of every number, in bits.

    Yields
    ------
    target, name : str
        "canary-<times>"; name is "" for the planted numbers, `UNPLANTED` or `MOST`, a bound.
    score : Score
        "exposure" by exact rank among all numbers, and "exposure-extrapolated" by a skew-normal.
    """
    found, canaries = perplexities[:, 0], _drawn(cell)
    rng = np.random.default_rng(cell.seed)
    others = np.setdiff1d(np.arange(len(found)), [int(digits) for digits in canaries])
    never = rng.choice(others, min(_UNPLANTED, len(others)), replace=False)
    width = planting(cell).digits
    measured = exposures_among(found, canaries | {f"{number:0{width}d}": 0 for number in never.tolist()}, rng)
    for times in sorted(set(canaries.values())):
        target = f"{CANARY}-{times}"
        for name, count in (("", times), (UNPLANTED, 0)):
            group = [one for one in measured if one.times == count]
            for score in _scores(group, cell.seed):
                yield target, name, score
        yield target, MOST, Score("exposure", math.log2(len(found)), math.nan, math.nan, len(found))


def _drawn(cell: Cell) -> dict[str, int]:
    settings = planting(cell)
    return draw_canaries(settings.times, settings.digits, np.random.default_rng([cell.seed, 0]))


def _scores(group: list[ExposedCanary], seed: int) -> list[Score]:
    scores = []
    for name, each in (
        ("exposure", [one.exposure for one in group]),
        ("exposure-extrapolated", [one.extrapolated for one in group]),
    ):
        score = mean_score(name, np.array(each), np.random.default_rng(seed), CHANCE)
        # One number has no interval: resampling it would make it look certain.
        scores.append(score if len(each) > 1 else Score(name, score.value, math.nan, math.nan, 1, CHANCE))
    return scores
