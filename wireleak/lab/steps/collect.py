"""Collect a run's output into `results.json`, `results.csv` and the report."""

from __future__ import annotations

import json
import math
import platform
import subprocess
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Group, RenderableType

from wireleak.common.measures.statistics.detection import detection_aucs
from wireleak.common.models import build
from wireleak.common.words import counted, listed
from wireleak.lab.data import dependence
from wireleak.lab.devices.pi.boards import BOARDS
from wireleak.lab.features.measuring import measure_features
from wireleak.lab.power.design import planned
from wireleak.lab.power.statement import statements
from wireleak.lab.report.findings import titles
from wireleak.lab.report.formatting import size
from wireleak.lab.report.page import render, terminal_table
from wireleak.lab.report.published import published_table
from wireleak.lab.run import planting, truth
from wireleak.lab.run.attack_folder import AttackFolder
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.division import shared_by_seeds
from wireleak.lab.run.job import AttackJob, attack_jobs, shown_variant
from wireleak.lab.run.kept import kept_captures
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.run.pictures import write_pictures
from wireleak.lab.run.results import (
    Disjoint,
    Machine,
    Private,
    Results,
    Row,
    Step,
    Task,
    VariantSummary,
    Wire,
    write_results,
)
from wireleak.lab.run.scored import kept_bounds
from wireleak.lab.steps.bounds import companion_rows
from wireleak.lab.steps.deal import registered
from wireleak.lab.steps.devices import device_uses, said_of
from wireleak.lab.steps.fits import fit_of
from wireleak.lab.steps.plan import Plan
from wireleak.lab.steps.ranking import ranked
from wireleak.lab.steps.score import grant_of, pictures_of
from wireleak.lab.steps.trainer import said_of_trainer
from wireleak.lab.steps.two_points import noise_audits
from wireleak.lab.study.tables import Variant

_BEFORE_JAILS = "a version without jails for the parties made captures of this run"
PACKAGES = ("wireleak", "flwr", "torch", "grpcio", "protobuf", "numpy")


@dataclass(frozen=True)
class Findings:
    """Contents of each cell's captures, scores of each attack, and reasons of skipped ones, by name."""

    wires: dict[str, list[Wire]] = field(default_factory=dict)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def collect(
    plan: Plan,
    findings: Findings,
    described: dict[str, dict[str, Any]],
    folder: Path,
    began: float,
    command: str,
    steps: dict[str, list[Step]],
    page: bool = True,
) -> tuple[RenderableType, Path]:
    """Write the run's results and report.

    Parameters
    ----------
    plan : Plan
    findings : Findings
        Findings of every cell.
    described : dict
        The adversary's descriptions of its attacks, by name.
    folder : Path
        The run's folder.
    began : float
        Start of the run, by `time.monotonic()`.
    command : str
        Command that the user ran.
    steps : dict
        Changes and guarantees of each variant's transforms, by the variant's name.
    page : bool
        Also write the report.

    Returns
    -------
    table : rich renderable
        The result table, and a comparison with published scores if the study names some.
    report : Path
        The report's path.
    """
    cells = [cell for cell in plan.cells(folder) if cell.name in findings.wires]
    jobs = [job for cell in cells for job in attack_jobs(cell) if job.name in findings.rows]
    study = plan.study
    rankings, ranked_pictures = ranked(jobs)
    measured = measure_features(cells, plan.dataset, plan.divisions)
    results = Results(
        rankings=rankings,
        study=study.name,
        description=study.description,
        dataset=study.data.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        commit=_commit(),
        versions={"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        machine=Machine(
            platform=platform.platform(), cpus=psutil.cpu_count() or 0, memory=psutil.virtual_memory().total
        ),
        not_enforced=_not_enforced(cells, jobs),
        variants=_variants(plan, steps, cells),
        rows=[row for job in jobs for row in findings.rows[job.name]]
        + [row for cell in cells for row in kept_bounds(cell, jobs, partial(companion_rows, cell, jobs))],
        wires=[wire for cell in cells for wire in findings.wires[cell.name]],
        grants=[grant_of(job, described) for job in jobs],
        tasks=[task for cell in cells for task in _tasks(cell)] + measured.tasks,
        published=list(study.published),
        dependence=dependence(plan.dataset),
        disjoint=_disjoint(plan),
        # Pages show them in the order of their folders.
        fits=[fit_of(job) for job in sorted(jobs, key=lambda job: job.out)],
        devices=[use for cell in cells for use in device_uses(cell)],
        audits=noise_audits(cells),
        features=measured.maps,
        notes=[
            note
            for cell in cells
            for lines in (
                *(_lost(cell), _dropped(cell), _simulated(cell)),
                *(said_of(device_uses(cell)), said_of_trainer(cell)),
            )
            for note in lines
        ]
        + measured.notes
        + _kept(cells)
        + _noise(cells)
        + _resolved(plan)
        + [f"{name} did not run: {reason}" for name, reason in findings.skipped.items()],
    )
    results.seconds = time.monotonic() - began
    first = [picture for job in jobs if (picture := pictures_of(job)) is not None]
    write_pictures([*first, *ranked_pictures], folder)
    write_results(results, folder)
    return shown(results), render(folder) if page else RunFolder(folder).report


def shown(results: Results) -> RenderableType:
    """Return the result table with its notes, and a comparison with published scores if the study names some."""
    unheld = [f"Not enforced here: {results.not_enforced}."] if results.not_enforced else []
    parts: list[RenderableType] = [*unheld, terminal_table(results), *results.notes]
    if results.published:
        parts.append(published_table(results, titles(results)))
    return Group(*parts)


def _not_enforced(cells: list[Cell], jobs: list[AttackJob]) -> str | None:
    """Return in one line which processes could do more than their jail allows, or None."""
    captured = [json.loads(cell.done.read_text()).get("not_enforced", [_BEFORE_JAILS]) for cell in cells]
    files = [AttackFolder(job.out).not_enforced for job in jobs]
    attacked = [json.loads(file.read_text()) for file in files if file.is_file()]
    return "; ".join(dict.fromkeys(line for lines in attacked + captured for line in lines)) or None


def _noise(cells: list[Cell]) -> list[str]:
    """Say where the noise of defences came from, if any cell has one."""
    if not any(cell.protects for cell in cells):
        return []
    if cells[0].seeds.repeated:
        return ["The noise of defences follows from the secret that was given: whoever has it can remove the noise."]
    return ["The noise of defences was drawn from the system, so this run cannot be repeated exactly."]


def _resolved(plan: Plan) -> list[str]:
    """Say which small leaks the study would have shown."""
    first = {variant.name: min(plan.study.seeds_of(variant)) for variant in plan.study.variants}
    found = planned(plan.study, plan.dataset, lambda variant: plan.divisions[variant.name, first[variant.name]])
    return statements(found)


def _variants(plan: Plan, steps: dict[str, list[Step]], cells: list[Cell]) -> list[VariantSummary]:
    study = plan.study
    variants = []
    for variant in study.variants:
        name = variant.model or study.model.name
        network = build(name, plan.dataset.input_shape, len(plan.dataset.classes), 0)
        floats = math.prod(network.activation_shape(variant.cut))
        told = steps.get(variant.name, [])
        summary = VariantSummary(
            name=variant.name,
            title=variant.title,
            cut=variant.cut,
            link=variant.seen_as,
            mode=study.plan_of(variant).mode,
            floats_on_wire=floats,
            bytes_per_inference=4 * floats,
            seeds=list(study.seeds_of(variant)),
            transforms=[step.name for step in variant.transforms],
            changes=[f"{step.name}: {step.changes}" for step in told],
            guarantees=[
                f"{step.name}: {said}" for step in told if (said := step.guarantee or step.refusal) is not None
            ],
            privacy=_privacy(plan, variant, cells),
            pad=variant.pad,
            packed=study.plan_of(variant).pack,
            proved=[f"{step.name}: {step.guarantee}" for step in told if step.guarantee is not None],
            defence=variant.defence,
            against=variant.against,
            strength=math.nan if variant.strength is None else variant.strength,
        )
        variants.append(summary)
        # What a device sends has boards of its own, next to those of the host's device.
        variants += [
            summary.model_copy(
                update={
                    "name": shown_variant(variant.name, device),
                    "title": f"{variant.title or f'Cut {variant.cut}'}, {BOARDS[device.board].title}",
                }
            )
            for device in study.devices_on(variant)
        ]
    return variants


def _privacy(plan: Plan, variant: Variant, cells: list[Cell]) -> Private | None:
    privacy = plan.study.plan_of(variant).privacy
    if privacy is None:
        return None
    shards = plan.divisions[variant.name, min(plan.study.seeds_of(variant))].shards
    examples = min(len(shard.train) for shard in shards)
    if plan.study.data.canaries is not None:  # of which coins left some out
        examples = min(one["train"] for cell in cells if cell.variant == variant for one in registered(cell))
    return Private(**privacy.model_dump(), batch=plan.study.plan_of(variant).batch, examples=examples)


def _tasks(cell: Cell) -> list[Task]:
    """Return the accuracy on the task, that of the majority class, and what clients told of the last round."""
    history = json.loads(cell.history.read_text())
    last = history["rounds"][-1]
    accuracy = truth.accuracy_of(cell, last["evaluation_accuracy"])
    # The largest epsilon of the clients counts; their gradient metrics are averaged.
    told = {
        name: max(values) if name == "epsilon" else float(np.mean(values))
        for name, values in last.get("client_metrics", {}).items()
    }
    return [
        Task(
            variant=cell.variant.name,
            seed=cell.seed,
            link=cell.variant.seen_as,
            measure=name,
            value=value,
            n=accuracy.n if name == "accuracy" else len(cell.clients),
            rounds=last["round"],
            majority=accuracy.majority if name == "accuracy" else math.nan,
        ).drawn(accuracy.draws if name == "accuracy" else None)
        for name, value in ({"accuracy": accuracy.value} | told).items()
    ] + _standing(cell, history["rounds"])


def _standing(cell: Cell, rounds: list[dict[str, Any]]) -> list[Task]:
    """Return how a malicious participant's updates differ from the others' at the server, and how well that shows."""
    names = json.loads(cell.nodes.read_text()) if cell.nodes.exists() else {}
    own = [node for node, name in names.items() if name == cell.clients[0]]
    compared = [entry.get("standing", {}) for entry in rounds]
    seen = [nodes[node] for nodes in compared for node in own if node in nodes]
    # A client with an auditor's planted numbers trains honestly.
    if cell.variant.participant is None or planting.plants(cell.variant) or not seen:
        return []
    means = {name: float(np.mean([one[name] for one in seen])) for name in ("norm-ratio", "cosine")}
    aucs = {f"detected-{name}": auc for name, auc in detection_aucs(compared, own).items()}
    return [
        Task(
            variant=cell.variant.name,
            seed=cell.seed,
            link=cell.variant.seen_as,
            measure=f"participant-{name}",
            value=value,
            n=len(seen) if name in means else sum(map(len, compared)),
            rounds=len(rounds),
        )
        for name, value in (means | aucs).items()
    ]


# What the server did about a client's faults, by phase.
_LEFT_OUT = {"head": "the head ended a stream that named itself {}"}


def _lost(cell: Cell) -> list[str]:
    """Return notes on clients that died while they trained."""
    again = f"its figures rest on fewer updates; --resume {cell.run} captures it again"
    return [f"{cell.name}: {end} in training; {again}." for end in cell.lost]


def _dropped(cell: Cell) -> list[str]:
    """Return notes on updates that the server could not use: client, rounds and reason."""
    history = json.loads(cell.history.read_text())
    names = json.loads(cell.nodes.read_text()) if cell.nodes.exists() else {}
    rounds: dict[tuple[str, str, str], list[int]] = {}
    for entry in history["rounds"]:
        for one in entry["dropped"]:
            client = names.get(str(one["client"]), f"node {one['client']}")
            rounds.setdefault((client, one["phase"], one["reason"]), []).append(entry["round"])
    return [
        f"{cell.name}: {_LEFT_OUT.get(phase, 'the update of {} was not used').format(client)} "
        f"({phase}, round {', '.join(map(str, numbers))}): {reason}"
        for (client, phase, reason), numbers in rounds.items()
    ]


def _kept(cells: list[Cell]) -> list[str]:
    """Return a note on the captures that were compressed or dropped after the attacks."""
    changed = [one for cell in cells for one in kept_captures(cell)]
    compressed, dropped = [one for one in changed if one.kept], [one for one in changed if not one.kept]
    said = []
    if compressed:
        sizes = size(sum(one.recorded for one in compressed)), size(sum(one.kept for one in compressed))
        said.append(f"{len(compressed)} compressed ({sizes[0]} to {sizes[1]})")
    if dropped:
        links = sorted({one.link.partition("-")[0] for one in dropped})
        of = listed(["training" if link == "train" else f"the {link} encoder" for link in links])
        said.append(f"{len(dropped)} of {of} dropped ({size(sum(one.recorded for one in dropped))})")
    return [f"Captures: {'; '.join(said)}, as the study's table tap says."] if said else []


def _simulated(cell: Cell) -> list[str]:
    """Return a note on a training without links: its time and its memory."""
    if not cell.usage.exists():
        return []
    used = json.loads(cell.usage.read_text())
    in_process, count = cell.variant.engine == "in-process", len(cell.clients)
    clients = f"{counted(count, 'client')} in one process" if in_process else counted(count, "virtual client")
    return [
        f"{cell.name}: {clients}, {counted(cell.plan.rounds, 'round')} "
        f"in {used['seconds']:.0f} s with at most {used['peak_bytes'] / 2**30:.2f} GiB of memory, "
        + ("and nothing on a wire" if in_process else "Ray's start and processes included")
    ]


def _disjoint(plan: Plan) -> Disjoint:
    division, by, variant = plan.first, plan.study.data.disjoint_by, plan.study.variants[0]
    of_seeds = [plan.divisions[variant.name, seed] for seed in plan.study.seeds_of(variant)]
    return Disjoint(
        seeds_share=shared_by_seeds(of_seeds, None if by is None else plan.dataset.group(by)),
        checked=True,
        parts=plan.parts(division),
        duplicates_dropped=division.roles.duplicates,
        overlaps=division.overlaps,
    )


def _commit() -> str:
    """Return the checkout's commit, with "+" for uncommitted changes; "" outside a checkout."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return ""
    try:
        run = ["git", "-C", str(root)]
        head = subprocess.run([*run, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*run, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
