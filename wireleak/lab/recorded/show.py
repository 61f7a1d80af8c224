"""Show an attack on a recorded capture: what it read, its scores and verdict in the terminal, and a page."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from wireleak.common.files import link_or_copy
from wireleak.common.measures import quantity
from wireleak.common.reads import MARK, Read
from wireleak.common.references import reference
from wireleak.common.targets.target import OWN, Array, Guesses, Target
from wireleak.common.words import counted
from wireleak.lab.launch.watch import say
from wireleak.lab.recorded.content import Content
from wireleak.lab.recorded.request import Request
from wireleak.lab.recorded.truth import Truth
from wireleak.lab.report.boards import notes_of
from wireleak.lab.report.findings import findings
from wireleak.lab.report.page import render
from wireleak.lab.run.attack_folder import AttackFolder
from wireleak.lab.run.job import AttackJob
from wireleak.lab.run.pictures import Pictures, write_pictures
from wireleak.lab.run.results import Grant, Results, Row, VariantSummary, write_results
from wireleak.lab.steps.score import (
    SHOWN,
    figures_of,
    named_guesses,
    partly_of,
    pictures_of,
    score_job,
    score_read,
    small,
)
from wireleak.lab.steps.wires import wire_of

_NEITHER = "This shows neither that the wire leaks nor that it does not."
_FAULTS = 5
_DRAWN_WITH_INK = ("digits", "omniglot")


@dataclass(frozen=True)
class Guessed:
    """The scores of an attack, its pictures if they are some, and why it was not scored where it was not."""

    rows: list[Row]
    pictures: Pictures | None
    unscored: str = ""
    study: str = ""


def scored(
    request: Request,
    attack: dict[str, Any],
    sought: Target[Any],
    content: Content,
    truth: Truth | None,
    unscored: str,
) -> Guessed:
    """Score guesses by the ground truth, if it is known."""
    guesses = named_guesses(request.guesses.guesses, request.attack)
    sealed = None if truth is None else truth.sealed
    shared = {
        "study": "capture" if sealed is None else sealed.cell.study.name,
        "variant": request.name,
        "seed": request.seed,
        "link": content.link,
        "vantage": request.vantage or attack["threat"]["vantage"][0],
        "attack": request.attack,
    }
    rows = []
    if truth is not None:
        meta, units = _meta(request), None if sealed is None else sealed.replicates()
        meta["unread"] = sorted({*meta.get("unread", ()), *truth.unknown})
        found = score_read(sought, guesses, truth.values, request.seed, units, meta)
        partly = partly_of(meta)
        rows = [Row(**shared, **figures_of(one, partly)).drawn(one.score.draws) for one in found]
    picture = None if sealed is None else sought.picture(guesses, sealed)
    if picture is None:
        # Without ground truth the guesses of whole inputs are still worth a look.
        picture = np.zeros(0, np.float32), guesses if sealed is None and sought.rebuilds else {}
    ink = sealed is not None and sealed.cell.study.data.name in _DRAWN_WITH_INK
    return Guessed(rows, _pictures(request, *picture, ink), unscored, str(shared["study"]))


def scored_job(job: AttackJob) -> Guessed:
    """Score an attack on a run's federated training."""
    return Guessed(score_job(job), pictures_of(job), study=job.cell.study.name)


def show(request: Request, attack: dict[str, Any], content: Content, guessed: Guessed, console: Console) -> int:
    """Print and write what an attack found; return the exit status, which is 1 where its guess is only the prior."""
    meta = _meta(request)

    line = partial(say, console)
    for one in (Read(**one) for one in meta["reads"][OWN]):
        line(f"read {one.said}" if one.complete else f"{MARK} read {one.said}")
    for note in _remarks(request, content, meta):
        line(f"note: {note}")
    # The attack can write its own folder, so the results lie outside it.
    shown = AttackFolder(request.folder)
    link_or_copy(request.guesses.meta, shown.meta)
    line(f"guesses: {link_or_copy(request.guesses.guesses, shown.guesses)}")
    if meta["prior"]:
        line(f"nothing is shown: {meta['prior']}")
        return 1
    results = _results(request, attack, content, guessed, meta)
    write_results(results, request.folder)
    write_pictures([] if guessed.pictures is None else [guessed.pictures], request.folder)
    if guessed.rows:
        console.print(_table(guessed.rows, request.attack))
        for note in notes_of(guessed.rows):
            line(note)
        for found in findings(results):
            line(f"{found.tag}: {found.text}")
    else:
        line(f"not scored: {guessed.unscored}. {_NEITHER}")
    line(f"page: {render(request.folder)}")
    return 0


def _remarks(request: Request, content: Content, meta: dict[str, Any]) -> list[str]:
    """Return what a reader must know of the capture: what is missing from it, and what was left out."""
    faults = content.seen["faults"]
    said = [*content.seen["notes"], *faults[:_FAULTS], *meta["notes"]]
    if len(faults) > _FAULTS:
        said.append(f"{len(faults) - _FAULTS} more faults; `wireleak inspect` lists them")
    said += [f"{counted(packets, 'packet')} skipped: {why}" for why, packets in content.seen["skipped"].items()]
    if not request.of_run and request.victims is None and content.activations:
        said.append("how many inputs were sent is not known; those that the capture holds are counted (see --victims)")
    return said


def _results(
    request: Request, attack: dict[str, Any], content: Content, guessed: Guessed, meta: dict[str, Any]
) -> Results:
    (seen,) = content.seen["captures"]
    variant = guessed.rows[0].variant if guessed.rows else request.name
    model = meta["granted"].get("model") or {}
    training = any(kind in content.kinds for kind in ("model-update", "global-model"))
    unscored = [f"Not scored: {guessed.unscored}. {_NEITHER}"] if guessed.unscored else []
    spent = (meta["fit"] or {}).get("seconds", {})
    return Results(
        study=guessed.study or "capture",
        description=" ".join([f"The attack {request.attack} on the capture {content.path.name}.", *unscored]),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=shlex.join(["wireleak", *sys.argv[1:]]),
        seconds=sum(spent.get(part, 0.0) for part in ("fit", "guess")),
        not_enforced="; ".join(_not_enforced(request)) or None,
        variants=[
            VariantSummary(
                name=variant,
                title=content.path.name,
                cut=model.get("cut", 0),
                link=content.link,
                mode="federated" if training else "split",
                seeds=[request.seed],
            )
        ],
        rows=guessed.rows,
        wires=[wire_of(seen, variant, request.seed, content.link)],
        grants=[
            Grant(
                variant=variant,
                attack=request.attack,
                target=request.target,
                vantage=guessed.rows[0].vantage if guessed.rows else request.vantage or attack["threat"]["vantage"][0],
                seed=request.seed,
                sees=attack["threat"]["sees"],
                knows=attack["threat"]["knows"],
                observations=sum(meta["observations"].values()),
                incomplete=partly_of(meta).get(OWN, ""),
                note="; ".join(meta["notes"]),
            )
        ],
        notes=_remarks(request, content, meta),
    )


def _not_enforced(request: Request) -> list[str]:
    file = request.guesses.not_enforced
    lines: list[str] = json.loads(file.read_text()) if file.is_file() else []
    return lines


def _meta(request: Request) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads(request.guesses.meta.read_text())
    return meta


def _pictures(request: Request, originals: Array, guesses: Guesses, ink: bool) -> Pictures | None:
    """Return the first victims' guesses as pictures; `originals` is empty where they are not known."""
    if not guesses or guesses[OWN].ndim < 3:
        return None
    shown = {f"control:{name}" if name else request.attack: small(guess[:SHOWN]) for name, guess in guesses.items()}
    own = shown[request.attack]
    kept = small(originals[:SHOWN]) if len(originals) else np.zeros((0, *own.shape[1:]), np.float32)
    return Pictures(request.name, "plaintext", request.seed, request.attack, kept, shown, ink)


def _table(rows: Iterable[Row], attack: str) -> Table:
    table = Table("guess", "measure", "value", "95 % interval", "n", box=None)
    for one in rows:
        measure = quantity(one.measure)
        interval = f"[{measure.write(one.low)}, {measure.write(one.high)}]"
        label = f"  {reference(one.name).label}" if one.name else attack
        value = f"{measure.write(one.value)}{MARK if one.incomplete else ''}"
        table.add_row(label, measure.label, value, interval, str(one.n))
    return table
