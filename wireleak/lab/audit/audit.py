"""Audit a user's own network on a user's own data: serve, tap and attack every cut, and compare them.

An audit writes a study (a TOML file to keep, change and run again) and runs it. It adds a comparison of the cuts: their
costs for the device, and which leaks least.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from wireleak.lab.audit.readings import read_captures
from wireleak.lab.audit.report import report
from wireleak.lab.audit.subject import Audited, Request, Subject, data_of, examine, keep, sizes, slug
from wireleak.lab.steps.run import run_study

# Limits of the white-box search of one cut, in floating-point operations and steps: minutes on one core.
_SEARCH_FLOPS, _SEARCH_STEPS = 2e12, (60, 500)


def audit(request: Request, out: Path, jobs: int, console: Console) -> Path:
    """Run an audit, print its table, and return the path of audit.html.

    Parameters
    ----------
    request : Request
    out : Path
        Folder in which the study file and the run's folder are made.
    jobs : int
        How many cells, and how many attacks, run at once.
    console : Console
        Output for progress and tables.

    Raises
    ------
    StudyError, DataError
        Before any process starts: network, data, task, attribute or cut cannot be audited as requested.
    LaunchError
        A process failed.
    """
    subject = examine(request)
    name = f"audit-{slug(request.model.rpartition(':')[2])}"
    listed = ", ".join(f"{cut} after {subject.block(cut)}" for cut in subject.network.cuts)
    console.print(f"[bold]{name}[/]: possible cuts: {listed}", highlight=False, soft_wrap=True)
    source = keep(out / f"{name}.toml", study_toml(subject, name))
    folder = run_study(str(source), out, data=request.root, jobs=jobs, table=False, console=console)
    readings = read_captures(
        folder, subject.cuts, tuple(subject.dataset.attributes), subject.is_text, request.quick, console
    )
    return report(Audited(subject, folder, readings), console)


def study_toml(subject: Subject, name: str) -> str:
    """Return the study that audits `subject`, as TOML."""
    import tomli_w

    request, quick = subject.request, subject.request.quick
    study: dict[str, Any] = {
        "name": name,
        "description": f"Audit of {Path(request.model).name} on {request.data}: the leakage of each cut",
        "seeds": list(range(request.seeds)),
        "data": data_of(subject),
        "model": {"name": request.model},
        # Enough steps in a round for the running statistics of batch normalisation to converge.
        "system": {"rounds": 2 if quick else 3, "epochs": 3, "batch": 32},
        "serve": {"victim_batch": 1, "attacker_batch": 32},
        "tap": {"keep": "serving"},
        "threat": {
            "vantage": "gateway",
            "sees": ["activation"],
            "knows": ["surrogate", "queries", "architecture", "weights"],
        },
        "variants": [
            {"name": f"cut-{cut}", "title": f"Cut {cut}, after {subject.block(cut)}", "cut": cut}
            for cut in subject.cuts
        ],
        "attacks": _attacks(subject),
    }
    return f"# Written by `wireleak audit`; change it and run it with `wireleak run`.\n{tomli_w.dumps(study)}"


def _attacks(subject: Subject) -> list[dict[str, Any]]:
    """Return several attacks on the input, of which the strongest counts, and a probe for each attribute."""
    quick = subject.request.quick
    attacks: list[dict[str, Any]] = []
    if not subject.is_text:
        attacks.append(
            {"name": "inversion", "targets": ["input"], "untrained": "never" if quick else "first seed"}
            | ({"options": {"epochs": 15}} if quick else {})
        )
        options = {"epochs": 15} if quick else {}
        attacks.append({"name": "inverse-network", "targets": ["input"], "untrained": "never", "options": options})
        victims = sizes(subject)["victims"]
        for cut in [] if quick else subject.cuts:
            # A forward and a backward pass cost three times the device's forward pass.
            steps = round(_SEARCH_FLOPS / (3 * max(subject.costs[cut].flops, 1) * victims))
            if steps >= _SEARCH_STEPS[0]:
                options = {"iterations": min(steps, _SEARCH_STEPS[1])}
                one = {"name": "rmle", "targets": ["input"], "untrained": "never", "options": options}
                attacks.append(one | {"variants": [f"cut-{cut}"]})
    # A cut that sends one vector for each word is read word by word after the run.
    shapes = {cut: subject.network.activation_shape(cut) for cut in subject.cuts}
    mixed = [cut for cut, shape in shapes.items() if len(shape) != 2 or shape[0] != subject.dataset.input_shape[0]]
    if subject.is_text and mixed:
        one = {"name": "word-set", "targets": ["input"], "untrained": "never"}
        attacks.append(one | {"variants": [f"cut-{cut}" for cut in mixed], "options": {"model": "logistic"}})
    if subject.dataset.attributes:
        targets = list(subject.dataset.attributes)
        attacks.append({"name": "attributes", "targets": targets, "untrained": "never" if quick else "first seed"})
    return attacks
