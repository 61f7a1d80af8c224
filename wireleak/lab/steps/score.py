"""Join guesses with the ground truth: targets score them, this module makes the rows of the results."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wireleak.common.measures import Score
from wireleak.common.measures.statistics.bootstrap import resampled_by
from wireleak.common.reads import CONNECTION, MESSAGE, Read, incomplete
from wireleak.common.references import CONSTANT, Role, reference
from wireleak.common.targets.input import described
from wireleak.common.targets.target import OWN, PERMUTED, Guesses, Scored, Target
from wireleak.common.threat import Vantage
from wireleak.lab.run.attack_folder import AttackFolder
from wireleak.lab.run.job import AttackJob
from wireleak.lab.run.pictures import Pictures
from wireleak.lab.run.results import Grant, Row

Arrays = dict[str, npt.NDArray[np.float32]]
# Show the first victims of the stream, so that the choice does not depend on results.
SHOWN = 12
# Larger pictures are shown at this size: a page of many stays small, and is written in seconds.
_SIDE = 112
_PREFIX = "control:"
_ENCRYPTED = (MESSAGE, CONNECTION)
_ON_THE_WIRE = (Vantage.LINK, Vantage.GATEWAY)


def read_guesses(path: Path) -> Arrays:
    """Return an attack's own guess under its name, and each baseline's under `control:<name>`."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def read_meta(job: AttackJob) -> dict[str, Any]:
    """Return the metadata that an attack wrote about itself."""
    meta: dict[str, Any] = json.loads(AttackFolder(job.out).meta.read_text())
    return meta


def cut_short(job: AttackJob) -> str | None:
    """Say how an attack ended early: its training stopped, or it could not run; None if it did all of its work."""
    meta = read_meta(job)
    stopped: str | None = meta["prior"] or (meta["fit"] or {}).get("stopped")
    return stopped


def score_job(job: AttackJob, quality: Collection[str] | None = None) -> list[Row]:
    """Return every measure of an attack's guess and of each of its baselines.

    Parameters
    ----------
    job : AttackJob
    quality : collection of str, optional
        Guesses of which measures of quality are taken, see `wireleak.common.targets.input.described`.

    Returns
    -------
    list of Row
        The attack's own rows first; intervals are bootstrap over this seed's victims,
        or over their persons where the study keeps persons apart.
    """
    meta = read_meta(job)
    target, truth = job.sought, job.truth(federated=meta["training"] is not None)
    partly = partly_read(job)
    with described(quality):
        values = target.ground_truth(truth)
        scored = score_read(target, _guesses(job), values, job.cell.seed, truth.replicates(), meta)
    every = [*scored, *_measured(job)]
    return [job.row(**figures_of(one, partly)).drawn(one.score.draws) for one in every]


def score_read(
    target: Target[Any],
    guesses: Guesses,
    truth: Any,
    seed: int,
    units: npt.NDArray[np.int64] | None,
    meta: Mapping[str, Any],
) -> list[Scored]:
    """Score guesses of the rows that the attack read.

    Parameters
    ----------
    target : Target
    guesses : mapping of str to array
        As targets name them.
    truth
        As the target reads it.
    seed : int
    units : int64 (n,) or None
        The person or example of each row; those of one unit are resampled together.
    meta : mapping
        The attack's metadata; "unread" are rows of which nothing was read, though others were.
    """
    if unread := meta.get("unread"):
        count = len(guesses[OWN])
        rows = np.setdiff1d(np.arange(count), unread)
        if (part := target.part(truth, rows)) is not None:
            # A baseline that was drawn several times has its rows second.
            guesses = {
                name: guess[:, rows] if name == PERMUTED and guess.ndim > 2 else guess[rows]
                for name, guess in guesses.items()
            }
            truth, units = part, units[rows] if units is not None and len(units) == count else None
    with resampled_by(units):
        return target.score(guesses, truth, seed)


def partly_read(job: AttackJob) -> dict[str, str]:
    """Return by guess what was read for it where the study promised more; "" names the attack and its readers."""
    # Guesses that no attack of ours wrote have no such report.
    meta: dict[str, Any] = read_meta(job) if AttackFolder(job.out).meta.is_file() else {"prior": None}
    hidden = job.cell.variant.encrypted or job.cell.plan.secure
    if hidden and job.vantage in _ON_THE_WIRE:
        # The study promises that nobody reads this link, but its sizes and times are seen.
        reads = {name: [one for one in of if one["kind"] in _ENCRYPTED] for name, of in meta.get("reads", {}).items()}
        meta = {"reads": reads, "prior": None}
    return partly_of(meta)


def partly_of(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return from an attack's metadata, by guess, what was read for it where more was promised."""
    partly = {name: incomplete(Read(**one) for one in reads) for name, reads in meta.get("reads", {}).items()}
    # An attack that could not run for want of memory has read everything, and its guess rests on nothing.
    return partly | {OWN: partly.get(OWN) or meta["prior"] or ""}


def named_guesses(path: Path, attack: str) -> Arrays:
    """Read guesses as targets name them: the attack's own under "", each baseline's under its name."""
    stored = read_guesses(path)
    return {OWN if name == attack else name.removeprefix(_PREFIX): guess for name, guess in stored.items()}


def _guesses(job: AttackJob) -> Arrays:
    return named_guesses(job.guesses, job.use.name)


def _measured(job: AttackJob) -> list[Scored]:
    """Return measures that the attack reported of its own fit, such as its training error."""
    fit = read_meta(job)["fit"] or {}
    return [
        Scored(job.target, OWN, Score(name, value, math.nan, math.nan, fit.get("pairs", 0)))
        for name, value in fit.get("measured", {}).items()
    ]


def grant_of(job: AttackJob, described: dict[str, dict[str, Any]]) -> Grant:
    """Return the grant of an attack and the number of observations that it used."""
    threat = described[job.use.name]["threat"]
    meta = read_meta(job)
    return Grant(
        variant=job.variant,
        attack=job.use.shown,
        target=job.target,
        vantage=job.vantage,
        link=job.cell.variant.seen_as,
        seed=job.cell.seed,
        sees=threat["sees"],
        knows=threat["knows"],
        files=_files(meta["granted"]),
        observations=sum(meta["observations"].values()),
        incomplete=partly_read(job).get(OWN, ""),
        note=meta["prior"] or "; ".join(meta["notes"]),
    )


def _files(granted: dict[str, Any]) -> list[str]:
    """Return the names of the granted files, without those of the baselines."""
    single = [granted[name] for name in ("surrogate", "encoder", "head") if granted.get(name)]
    named = [Path(path).name for path in [*single, *granted.get("files", {}).values()]]
    return named + (["architecture"] if granted.get("model") else [])


def pictures_of(job: AttackJob) -> Pictures | None:
    """Return the first victims' inputs with the guesses of attack and baselines; None if they are not pictures."""
    truth = job.truth(federated=read_meta(job)["training"] is not None)
    if (picture := job.sought.picture(_guesses(job), truth)) is None:
        return None
    originals, guesses = picture
    return Pictures(
        variant=job.variant,
        link=job.cell.variant.seen_as,
        seed=job.cell.seed,
        attack=job.use.shown,
        originals=small(originals[:SHOWN]),
        guesses={_PREFIX + name if name else job.use.shown: small(guess[:SHOWN]) for name, guess in guesses.items()},
        ink=job.cell.study.data.name in ("digits", "omniglot"),
    )


def small(pictures: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a copy of pictures (n, channels, height, width) of at most `_SIDE` pixels a side, by means of squares."""
    factor = -(-max(pictures.shape[2:], default=1) // _SIDE) if pictures.ndim == 4 else 1
    if factor == 1:
        return pictures.copy()
    n, channels, height, width = pictures.shape
    cut = pictures[:, :, : height // factor * factor, : width // factor * factor]
    squares = cut.reshape(n, channels, height // factor, factor, width // factor, factor)
    return np.asarray(squares.mean((3, 5)), np.float32)


def figures_of(scored: Scored, partly: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a row that a score fills; `partly` says by guess what it rests on."""
    score, own = scored.score, scored.guess == OWN
    role: Role = "attack" if own else "bound" if scored.bound else reference(scored.guess).role
    constant = role == "bound" or scored.guess in CONSTANT
    return {
        "target": scored.target,
        "measure": score.measure,
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "n": score.n,
        "chance": math.nan if score.chance is None else score.chance,
        "role": role,
        "name": scored.guess,
        "permutations": score.permutations,
        "incomplete": "" if constant else partly.get(scored.guess, partly.get(OWN, "")),
    }
