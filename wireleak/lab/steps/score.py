"""Join guesses with the sealed ledger: the one place where ground truth is read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wireleak.common.measures import (
    Score,
    conditional_probabilities,
    linear_code,
    score_attribute,
    score_reconstruction,
)
from wireleak.common.measures.scores.hidden_data import secret_scores
from wireleak.common.measures.scores.matching import match
from wireleak.common.measures.scores.measure import are_numbered
from wireleak.common.measures.scores.tpr_at_fpr import membership_scores
from wireleak.common.measures.statistics.bootstrap import combine_seeds
from wireleak.common.models import build
from wireleak.lab.data.overlap import find_overlap
from wireleak.lab.run import truth
from wireleak.lab.run.pictures import Pictures
from wireleak.lab.run.results import Grant, Row, role_of
from wireleak.lab.steps import canaries
from wireleak.lab.steps.attack import AttackJob

Arrays = dict[str, npt.NDArray[np.float32]]
# The first victims of the stream, whatever became of them: a rule that does not look at the result.
SHOWN = 12
PERMUTED = "control:permuted"
# Victims' inputs that the attacker does not hold itself, where a study repeats a published overlap.
UNSEEN = "input-unseen"
# Wires of more floats than this are no bottleneck to compare with a code of their width.
WIDEST_CODE = 256


def read_guesses(path: Path) -> Arrays:
    """An attack's own guess under its name, each control's under `control:<name>`."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def read_meta(job: AttackJob) -> dict[str, Any]:
    """What an attack told of itself."""
    meta: dict[str, Any] = json.loads((job.out / "meta.json").read_text())
    return meta


def score_job(job: AttackJob) -> list[Row]:
    """Every measure of an attack's guess and of each of its controls.

    Returns
    -------
    list of Row
        The attack's own rows first; intervals are bootstrap over this seed's victims.
    """
    guesses = read_guesses(job.guesses)
    if job.target == "label":
        with np.load(job.cell.folder / "sealed" / "labels.npz", allow_pickle=False) as sealed:
            labels = sealed["label"].astype(np.int64)
        return _score(job, job.target, guesses, labels) + _measured(job)
    if read_meta(job)["training"] is not None:
        return _score_updates(job, guesses) + _measured(job)
    with np.load(job.cell.ledger, allow_pickle=False) as ledger:
        found = ledger["x" if job.target == "input" else f"attribute:{job.target}"]
        task = ledger["y"]
    if job.target != "input":
        own = next(iter(guesses.values()))
        guesses["control:conditional-majority"] = conditional_probabilities(found, task, classes=own.shape[1])
    else:
        guesses |= _linear_code(job, found)
    rows = _score(job, job.target, guesses, found)
    if job.target == "input" and job.cell.study.data.overlap:
        with np.load(job.cell.surrogate, allow_pickle=False) as granted:
            seen = find_overlap(granted["x"], found).second
        unseen = np.setdiff1d(np.arange(len(found)), seen)
        if len(seen) and len(unseen):
            parts = {name: guess[unseen] for name, guess in guesses.items()}
            rows += _score(job, UNSEEN, parts, found[unseen])
    return rows + _measured(job)


def _score_updates(job: AttackJob, guesses: Arrays) -> list[Row]:
    """Scores of an attack on federated training."""
    cell, vantage = job.cell, job.vantage
    if job.target == truth.MEMBER:
        return _score(job, job.target, guesses, truth.members(cell), membership_scores)
    if job.target == truth.SECRET:
        return _score(job, job.target, guesses, truth.secrets(cell), secret_scores)
    if job.target == truth.CANARY:
        found = canaries.exposure_scores(cell, guesses[job.use.name])
        return [_row(job, target, name or job.use.name, score) for target, name, score in found]
    if job.target == "input":
        inputs, unit = truth.unit_inputs(cell, vantage)
        matched = {name: _matched(guess, inputs, unit) for name, guess in guesses.items()}
        return _score(job, job.target, matched, inputs)
    values = truth.unit_attribute(cell, vantage, job.target)
    rows = _score(job, job.target, guesses, values)
    who = np.array([sender for sender, _ in truth.units(cell, vantage, job.target)])
    alike = all(len(np.unique(values[who == sender])) == 1 for sender in np.unique(who))
    if alike and len(np.unique(who)) > 1:
        # What a client's rounds have in common is of the client: its scores are averaged over rounds.
        first = [int(np.flatnonzero(who == sender)[0]) for sender in np.unique(who)]
        means = {
            name: np.stack([guess[..., who == sender, :].mean(-2) for sender in np.unique(who)], axis=-2)
            for name, guess in guesses.items()
        }
        rows += _score(job, f"{job.target}-averaged", means, values[first])
    return rows


def _matched(
    guess: npt.NDArray[np.float32], inputs: npt.NDArray[np.float32], unit: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """The guesses of each update in the order that fits its inputs best: an update has no order."""
    parts = [guess[unit == one][match(guess[unit == one], inputs[unit == one])] for one in np.unique(unit)]
    return np.concatenate(parts)


def _linear_code(job: AttackJob, truth: npt.NDArray[np.float32]) -> Arrays:
    """What a linear code as wide as the wire keeps of the inputs: the control "pca-<floats>", of narrow wires."""
    model = job.cell.model()
    network = build(model["name"], job.cell.input_shape, job.cell.classes, 0)
    floats = math.prod(network.activation_shape(job.cell.variant.cut))
    with np.load(job.cell.surrogate, allow_pickle=False) as granted:
        own = granted["x"][~granted["augmented"]]
    if are_numbered(own) or floats > WIDEST_CODE or floats >= min(len(own), truth[0].size):
        return {}
    return {f"control:pca-{floats}": linear_code(own, truth, floats)}


Scorer = Callable[[npt.NDArray[np.float32], npt.NDArray[Any], np.random.Generator], list[Score]]


def _score(
    job: AttackJob, target: str, guesses: Arrays, found: npt.NDArray[Any], how: Scorer | None = None
) -> list[Row]:
    how = how or (score_reconstruction if job.target == "input" else score_attribute)
    rows = []
    scored: list[tuple[npt.NDArray[np.float32], list[Score]]] = []
    for name, guess in guesses.items():
        # Equal guesses score equally: tensors in process are mostly the captured ones to the last bit.
        scores = next((known for other, known in scored if np.array_equal(other, guess)), None)
        if scores is None:
            rng = np.random.default_rng(job.cell.seed)
            scores = _over_draws(guess, found, rng, how) if name == PERMUTED else how(guess, found, rng)
            scored.append((guess, scores))
        rows += [_row(job, target, name.removeprefix("control:"), one) for one in scores]
    return rows


def _over_draws(
    guesses: npt.NDArray[np.float32], found: npt.NDArray[Any], rng: np.random.Generator, how: Scorer
) -> list[Score]:
    """Scores of a control that was drawn once (n, classes) or several times (draws, n, classes).

    Of several draws the mean, with its 95 % t-interval: what the attack reaches that learnt nothing, not what one
    such attack may reach by luck.
    """
    if guesses.ndim == 2:
        return how(guesses, found, rng)
    each = [how(guess, found, rng) for guess in guesses]
    return [replace(combine_seeds(list(scores)), n=scores[0].n) for scores in zip(*each, strict=True)]


def _measured(job: AttackJob) -> list[Row]:
    """Numbers that the attack itself told of its fit, such as its training error."""
    fit = read_meta(job)["fit"] or {}
    scores = [
        Score(name, value, math.nan, math.nan, fit.get("pairs", 0)) for name, value in fit.get("measured", {}).items()
    ]
    return [_row(job, job.target, job.use.name, one) for one in scores]


def grant_of(job: AttackJob, described: dict[str, dict[str, Any]]) -> Grant:
    """What an attack was granted and how much it used."""
    threat = described[job.use.name]["threat"]
    meta = read_meta(job)
    return Grant(
        variant=job.cell.variant.name,
        attack=job.use.shown,
        target=job.target,
        vantage=job.vantage,
        link=job.cell.variant.seen_as,
        seed=job.cell.seed,
        sees=threat["sees"],
        knows=threat["knows"],
        files=_files(meta["granted"]),
        observations=sum(meta["observations"].values()),
        note=meta["prior"] or "; ".join(meta["notes"]),
    )


def _files(granted: dict[str, Any]) -> list[str]:
    """Names of the granted files; the control's own are left out."""
    single = [granted[name] for name in ("surrogate", "encoder", "head") if granted.get(name)]
    named = [Path(path).name for path in [*single, *granted.get("files", {}).values()]]
    return named + (["architecture"] if granted.get("model") else [])


def pictures_of(job: AttackJob) -> Pictures:
    """The first victims' inputs beside what the attack and its controls guessed of them."""
    guesses = read_guesses(job.guesses)
    if job.target == truth.SECRET:
        originals = truth.secrets(job.cell)
    elif read_meta(job)["training"] is not None:
        originals, unit = truth.unit_inputs(job.cell, job.vantage)
        guesses = {name: _matched(guess, originals, unit) for name, guess in guesses.items()}
    else:
        with np.load(job.cell.ledger, allow_pickle=False) as ledger:
            originals = ledger["x"]
    return Pictures(
        variant=job.cell.variant.name,
        link=job.cell.variant.seen_as,
        seed=job.cell.seed,
        attack=job.use.shown,
        originals=originals[:SHOWN],
        guesses={job.use.shown if name == job.use.name else name: guess[:SHOWN] for name, guess in guesses.items()},
        ink=job.cell.study.data.name in ("digits", "omniglot"),
    )


def _row(job: AttackJob, target: str, guess: str, score: Score) -> Row:
    own, bound = guess == job.use.name, guess == canaries.MOST
    return Row(
        study=job.cell.study.name,
        variant=job.cell.variant.name,
        seed=job.cell.seed,
        link=job.cell.variant.seen_as,
        vantage=job.vantage,
        attack=job.use.shown,
        target=target,
        measure=score.measure,
        value=score.value,
        low=score.low,
        high=score.high,
        n=score.n,
        chance=math.nan if score.chance is None else score.chance,
        role="attack" if own else "bound" if bound else role_of(guess),
        name="" if own else guess,
    )
