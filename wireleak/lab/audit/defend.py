"""Try defences on a user's own network and data, and report which reduces leakage most within a budget of accuracy.

Like an audit, this writes a study to keep, change and run again. The verdict comes from the study's comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from wireleak.common.files import write_json
from wireleak.lab.audit.continuing import Progress, keep, opened, resumable, slug
from wireleak.lab.audit.memory import limits_of
from wireleak.lab.audit.rows import gravest
from wireleak.lab.audit.subject import Request, Subject, data_of, examine
from wireleak.lab.launch.watch import Watch, say, working
from wireleak.lab.report.boards import Board, boards
from wireleak.lab.report.comparison import written
from wireleak.lab.report.defences import NONE, Comparison, compare_defences
from wireleak.lab.report.verdicts import Verdict
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.run.limits import Limits
from wireleak.lab.run.results import read_results
from wireleak.lab.steps.run import run_study
from wireleak.lab.study.schema import StudyError

_LOOKED_AT = 64
_TIMEOUT = 3600.0
# Examples in a step, and a client's part of the memory: two clients train at once.
_BATCH, _CLIENT_MEMORY = 32, 0.15
# Transforms that change only the activation that is sent.
_WITHOUT_TRAINING = ("noise", "quantise", "dropout")


@dataclass(frozen=True)
class ActivationScale:
    """Size of a network's activations before training, which scales clips and noise.

    Parameters
    ----------
    norm : float
        Median Euclidean norm of an example's activation.
    floats : int
        Numbers in one activation.
    """

    norm: float
    floats: int

    @property
    def each(self) -> float:
        """Root mean square of one number."""
        return self.norm / math.sqrt(self.floats)


def percent(text: str) -> float:
    """Return the share that "2%", "2 %" or "0.02" stands for.

    Raises
    ------
    StudyError
        The text is not a share between 0 and 1.
    """
    try:
        share = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise StudyError(f"--budget: {text!r} is not a share of accuracy; write 2% or 0.02")
    return share


def defend(
    request: Request,
    protect: str | None,
    budget: float,
    out: Path,
    jobs: int,
    console: Console,
    resume: Path | None = None,
) -> Path:
    """Run every defence on one cut, print the verdict, and return the path of the report.

    Parameters
    ----------
    request : Request
        Request with at most one cut; the default is the cut with the fewest numbers on the wire.
    protect : str or None
        Attribute that defences train against; the default is the first.
    budget : float
        Accuracy that a defence may cost, in [0, 1).
    out, jobs, console, resume
        As for `wireleak.lab.audit.audit.audit`.

    Raises
    ------
    StudyError, DataError
        Before any process starts: the request is invalid.
    LaunchError
        A process failed.
    """
    running: list[Limits] = []

    def state() -> str:
        return f"trying defences: {running[0].state()}" if running else "finding the cut and its costs"

    def tick(line: str) -> None:
        # Progress bars show it on a terminal.
        if not (console.is_terminal and running):
            say(console, line)

    with Watch(state, tick):
        folder, cut, wanted = _run(request, protect, out, jobs, console, resume, running)
    limits = running[0]
    with working(console) as work, work.on("comparing the defences"):
        results = read_results(folder)
        found = compare_defences(results)
        judged = outcomes(boards(results.rows))
    tags = {where: one.tag for where, one in judged.items()}
    verdicts = {
        one.target: verdict(
            one, budget, {variant: said for (variant, target), said in judged.items() if target == one.target}
        )
        for one in found
    }
    for one in found:
        console.print(
            _table(one, budget, {variant: tag for (variant, target), tag in tags.items() if target == one.target})
        )
        console.print(verdicts[one.target], soft_wrap=True)
    for attack, reason in limits.skipped.items():
        say(console, f"skipped {attack}: {reason}")
    for attack, how in limits.stopped.items():
        say(console, f"{attack}: {how}")
    write_json(
        RunFolder(folder).verdict,
        {
            "budget": budget,
            "cut": cut,
            "protect": wanted,
            "verdicts": verdicts,
            "outcomes": {f"{variant}: {target}": tag for (variant, target), tag in tags.items()},
            "skipped": limits.skipped,
            "stopped": limits.stopped,
            "incomplete": {f"{point.variant}: {one.target}": point.incomplete for one in found for point in one.points},
        },
    )
    return RunFolder(folder).report


def _run(
    request: Request,
    protect: str | None,
    out: Path,
    jobs: int,
    console: Console,
    resume: Path | None,
    running: list[Limits],
) -> tuple[Path, int, str | None]:
    """Run the study; return its folder, the cut, and the attribute to protect. Its limits are added to `running`."""
    progress = Progress.of(resume, request) if resume else None
    subject = examine(request, progress, narrowest=True, protect=protect)
    wanted = protect or next(iter(subject.dataset.attributes), None)
    if len(subject.cuts) != 1:
        raise StudyError("--cut: give exactly one cut")
    cut = subject.cuts[0]
    name = f"defend-{slug(request.model.rpartition(':')[2])}"
    folder = opened(out, name, subject, request, progress)
    kept = RunFolder(folder).study
    # Its batches follow from a measured speed, so a run that goes on keeps the study that it began with.
    study = kept.read_text() if kept.is_file() else study_toml(subject, name, cut, wanted)
    keep(kept, study)
    source = keep(out / f"{name}.toml", study)
    console.print(f"[bold]{name}[/]: cut {cut}, after {subject.block(cut)}; study in {source}", soft_wrap=True)
    for note in (*subject.counts.notes, *_untrained(request)):
        say(console, note)
    running.append(limits_of(subject))
    with resumable(folder):
        run_study(
            str(source),
            out,
            resume=folder,
            data=request.root,
            jobs=jobs,
            table=False,
            dataset=subject.dataset,
            limits=running[0],
            console=console,
        )
    return folder, cut, wanted


def outcomes(found: Sequence[Board]) -> dict[tuple[str, str], Verdict]:
    """Return the verdict on each variant and target: the gravest of any attacker, or of a simple reader of its wire."""
    alike: dict[tuple[str, str], list[Board]] = {}
    for board in found:
        alike.setdefault((board.variant, board.target), []).append(board)
    return {where: gravest(every) for where, every in alike.items()}


def _untrained(request: Request) -> list[str]:
    """Explain which defences are left out where the encoder is not trained."""
    if request.passes and not request.frozen_encoder:
        return []
    why = "--frozen-encoder keeps the encoder as it is" if request.passes else "no --epochs are given with --weights"
    return [f"defences that train the encoder are left out: {why}"]


def verdict(found: Comparison, budget: float, judged: Mapping[str, Verdict] | None = None) -> str:
    """Return a sentence that names the defence with the largest reduction within the budget, and its caveats.

    Parameters
    ----------
    found : Comparison
    budget : float
        Accuracy that a defence may cost, as a share.
    judged : mapping, optional
        Verdict on each variant. A defence whose own verdict is not resolved is not recommended.
    """
    defended = [point for point in found.points if point.defence != NONE]
    within = [point for point in defended if point.lost.value <= budget]
    helping = [point for point in within if found.seeds > 1 and point.helps]
    share = f"{budget * 100:g} points of accuracy"
    if not helping:
        tried = f"{len(defended)} settings were tried; {len(within)} of them cost at most that"
        why = (
            "one seed gives no interval: use --seeds 3"
            if found.seeds == 1
            else "none lowers the leak by more than its spread, corrected for their number"
        )
        return f"{found.target}: no defence is shown to lower the leak for at most {share} ({tried}; {why})."
    best = max(helping, key=lambda point: point.gained.value)
    left = "; the remaining leak may still be too high" if best.leak.low > found.floor else ""
    doubts = []
    if best.lost.high > budget:
        doubts.append(f" Its cost may exceed {share}: the interval over seeds does not exclude more.")
    # The best of several settings is chosen by the same score that is reported.
    if len(defended) > 1:
        doubts.append(
            f" It is the best of {len(defended)} settings on these victims, so part of the reduction may be luck."
        )
    said = (
        f"{found.target}: {best.title} lowers the strongest attacker's {found.leak} by {written(best.gained)} to "
        f"{written(best.leak)}{best.mark} (guessing: {found.floor:g}) for {written(best.lost)} of accuracy{left}."
    )
    own = (judged or {}).get(best.variant)
    if own is not None and own.outcome == "open":
        doubts.append(
            f" It is not recommended: whether a leak remains is not resolved. {own.resolution}".rstrip()
            + " Use more seeds or victims."
        )
    return "".join([said, *doubts])


def study_toml(subject: Subject, name: str, cut: int, protect: str | None) -> str:
    """Return the study that tries the defences, as TOML."""
    import tomli_w

    request, quick = subject.request, subject.request.quick
    study: dict[str, Any] = {
        "name": name,
        "description": f"Defences of {Path(request.model).name} on {request.data} at cut {cut}",
        "seeds": list(range(request.seeds)),
        "data": data_of(subject, clients=2 if request.passes else 1),
        "model": _model(request),
        "system": _training(subject),
        "serve": _serving(subject),
        "tap": {"keep": "serving"},
        "threat": {"vantage": "gateway", "sees": ["activation"], "knows": ["surrogate", "queries"]},
        "variants": [{"name": "none", "title": "no defence", "cut": cut, "defence": NONE}]
        + [
            {"name": slug(title), "title": title, "cut": cut, "defence": title.partition(",")[0], "transforms": [step]}
            for title, step in settings(_scale(subject, cut), protect, quick)
            if step["name"] in _WITHOUT_TRAINING or (request.passes and not request.frozen_encoder)
        ],
        "attacks": _attackers(subject),
    }
    return f"# Written by `wireleak defend`; change it and run it with `wireleak run`.\n{tomli_w.dumps(study)}"


def _serving(subject: Subject) -> dict[str, Any]:
    """Return how devices serve; large images are not copied, and not attacked in process as well."""
    few = subject.request.quick or subject.is_text or subject.is_large
    return {"victim_batch": 1, "attacker_batch": 32, "copies": int(not few), "in_process": not subject.is_large}


def _model(request: Request) -> dict[str, Any]:
    weights = {} if request.weights is None else {"weights": str(request.weights)}
    return {"name": request.model, **weights, **({} if request.passes else {"trained": True})}


def _training(subject: Subject) -> dict[str, Any]:
    """Return the study's training: the passes in up to three rounds, after which clients' encoders are averaged."""
    request = subject.request
    batch = _BATCH if subject.speed is None else subject.speed.batch(_BATCH, _CLIENT_MEMORY * request.memory)
    rounds = max(1, min(2 if request.quick else 3, request.passes))
    training = {"rounds": rounds, "epochs": max(1, -(-request.passes // rounds)), "batch": batch, "timeout": _TIMEOUT}
    return training | {"learning_rate": request.rate, "frozen_encoder": request.frozen_encoder}


def settings(scale: ActivationScale, protect: str | None, quick: bool) -> list[tuple[str, dict[str, Any]]]:
    """Return the title and transform of every setting; adversarial ones only if there is an attribute to protect."""
    clip = float(f"{scale.norm:.2g}")

    def noise(times: float) -> dict[str, Any]:
        return {"clip": clip, "sigma": float(f"{times * scale.each:.2g}")}

    against = {"attribute": protect}
    tried: list[tuple[str, str, dict[str, Any]]] = [
        ("noise, half of the signal", "noise", noise(0.5)),
        ("noise, twice the signal", "noise", noise(2.0)),
        ("quantisation, 3 bits", "quantise", {"bits": 3, "clip": float(f"{3 * scale.each:.2g}")}),
        ("NoPeek, 0.5", "nopeek", {"alpha": 0.5}),
    ]
    if protect is not None:
        tried.append(("gradient reversal, 0.3", "gradient-reversal", {**against, "strength": 0.3, "steps": 5}))
    if not quick:
        tried += [
            ("quantisation, 1 bit", "quantise", {"bits": 1, "clip": float(f"{scale.each:.2g}")}),
            ("NoPeek, 2", "nopeek", {"alpha": 2.0}),
            ("bottleneck, 0.001", "bottleneck", {"beta": 0.001}),
            ("bottleneck, 0.01", "bottleneck", {"beta": 0.01}),
            ("dropout, 0.5", "dropout", {"rate": 0.5}),
            ("adversarial generation, 1", "adversarial-generation", {"weight": 1.0}),
        ]
        if protect is not None:
            tried += [
                ("gradient reversal, 1", "gradient-reversal", {**against, "strength": 1.0, "steps": 5}),
                ("multidetasking, flipped labels", "multidetasking", {**against, "form": "flipped", "steps": 5}),
                ("declustering, 0.1", "declustering", {"attributes": [protect], "alpha": 0.1}),
            ]
    return [(title, {"name": name, "options": options}) for title, name, options in tried]


def _attackers(subject: Subject) -> list[dict[str, Any]]:
    """Return four probes for attributes, and three attacks on inputs (decoders, or word sets for texts)."""
    targets = list(subject.dataset.attributes)
    short = {"selectivity": False, "epochs": 30, "patience": 5}
    rungs = {
        "logistic": {"model": "logistic", **short},
        "mlp-64": {"model": "mlp-64", **short},
        "mlp-300": {"model": "mlp-300", **short},
        "mlp-1000x2": {"model": "mlp-1000x2", **short, "epochs": 12, "patience": 3},
    }
    uses = [
        {"name": "ladder", "label": label, "targets": targets, "untrained": "never", "options": options}
        for label, options in rungs.items()
        if targets
    ]
    sizes: dict[str, dict[str, Any]]
    if subject.is_text:
        models = ("logistic", "mlp-64", "mlp-300")
        name, sizes = "word-set", {f"words-{model}": {"model": model, "epochs": 40} for model in models}
    else:
        widths = {"decoder-small": 0.25, "decoder": 1.0, "decoder-large": 2.0}
        name, sizes = "inversion", {label: {"width": width, "epochs": 12} for label, width in widths.items()}
    return uses + [
        {"name": name, "label": label, "targets": ["input"], "untrained": "never", "options": options}
        for label, options in sizes.items()
    ]


def _scale(subject: Subject, cut: int) -> ActivationScale:
    import torch

    # `examine` loaded the user's weights into this network.
    encoder, _ = subject.network.split(cut)
    with torch.inference_mode():
        rows = encoder.eval()(torch.from_numpy(subject.dataset.inputs(slice(_LOOKED_AT)))).flatten(1)
    return ActivationScale(max(float(rows.norm(dim=1).median()), 1e-6), rows.shape[1])


def _table(found: Comparison, budget: float, tags: Mapping[str, str]) -> Table:
    table = Table(title=f"{found.target}: the strongest of {len(found.attackers)} fresh attackers", box=None)
    for name in ("setting", "accuracy lost", found.leak, "reduction", "", "verdict"):
        table.add_column(name, overflow="fold")
    for one in sorted(found.points, key=lambda point: point.leak.value):
        bare = one.defence == NONE
        note = "" if bare else "over budget" if one.lost.value > budget else "front" if one.front else ""
        lost, gained = ("", "") if bare else (written(one.lost), written(one.gained))
        leak = f"{written(one.leak)}{one.mark}"
        table.add_row(one.title, lost, leak, gained, note, tags.get(one.variant, ""))
    table.caption, table.caption_justify = "\n".join(found.notes) or None, "left"
    return table
