"""Join guesses with the sealed ledger: the one place where ground truth is read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wireleak.lab.attacking import AttackJob
from wireleak.lab.results import Grant, Pictures, Row
from wireleak.measures import Score, conditional_probabilities, score_attribute, score_reconstruction

Arrays = dict[str, npt.NDArray[np.float32]]
# The first victims of the stream, whatever became of them: a rule that does not look at the result.
SHOWN = 12


def read_guesses(path: Path) -> Arrays:
    """An attack's own guess under its name, each control's under `control:<name>`."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def score_job(job: AttackJob) -> list[Row]:
    """Every measure of an attack's guess and of each of its controls.

    Returns
    -------
    list of Row
        The attack's own rows first; intervals are bootstrap over this seed's victims.
    """
    with np.load(job.cell.ledger, allow_pickle=False) as ledger:
        truth = ledger["x" if job.target == "input" else f"attribute:{job.target}"]
        task = ledger["y"]
    guesses = read_guesses(job.guesses)
    if job.target != "input":
        own = next(iter(guesses.values()))
        guesses["control:conditional-majority"] = conditional_probabilities(truth, task, classes=own.shape[1])
    rows = []
    scored: list[tuple[npt.NDArray[np.float32], list[Score]]] = []
    for name, guess in guesses.items():
        # Equal guesses score equally: tensors in process are mostly the captured ones to the last bit.
        scores = next((known for other, known in scored if np.array_equal(other, guess)), None)
        if scores is None:
            rng = np.random.default_rng(job.cell.seed)
            scores = (score_reconstruction if job.target == "input" else score_attribute)(guess, truth, rng)
            scored.append((guess, scores))
        rows += [_row(job, name.removeprefix("control:"), one) for one in scores]
    return rows


def grant_of(job: AttackJob, described: dict[str, dict[str, Any]]) -> Grant:
    """What an attack was granted and how much it used."""
    threat = described[job.use.name]["threat"]
    meta = json.loads((job.out / "meta.json").read_text())
    return Grant(
        variant=job.cell.variant.name,
        attack=job.use.name,
        target=job.target,
        vantage=job.cell.study.threat.vantage,
        link=job.cell.variant.seen_as,
        seed=job.cell.seed,
        sees=threat["sees"],
        knows=threat["knows"],
        files=[Path(path).name for path in meta["granted"].values()],
        observations=sum(meta["observations"].values()),
        note=meta["prior"] or "; ".join(meta["notes"]),
    )


def pictures_of(job: AttackJob) -> Pictures:
    """The first victims' inputs beside what the attack and its controls guessed of them."""
    with np.load(job.cell.ledger, allow_pickle=False) as ledger:
        originals = ledger["x"][:SHOWN]
    return Pictures(
        variant=job.cell.variant.name,
        link=job.cell.variant.seen_as,
        seed=job.cell.seed,
        attack=job.use.name,
        originals=originals,
        guesses={name: guess[:SHOWN] for name, guess in read_guesses(job.guesses).items()},
        ink=job.cell.study.data.name in ("digits", "omniglot"),
    )


def _row(job: AttackJob, guess: str, score: Score) -> Row:
    return Row(
        study=job.cell.study.name,
        variant=job.cell.variant.name,
        seed=job.cell.seed,
        link=job.cell.variant.seen_as,
        vantage=job.cell.study.threat.vantage,
        attack=job.use.name,
        target=job.target,
        measure=score.measure,
        value=score.value,
        low=score.low,
        high=score.high,
        n=score.n,
        chance=math.nan if score.chance is None else score.chance,
        control="" if guess == job.use.name else guess,
    )
