"""The studies that an audit writes and runs: a cheap reading of each cut, and attacks where they decide most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wireleak.lab.audit.sizes import by_priority
from wireleak.lab.audit.subject import Subject, data_of

# Limits of the white-box search of one cut, in floating-point operations and steps: minutes on one core.
_SEARCH_FLOPS, _SEARCH_STEPS = 2e12, (60, 500)
# Largest message of the attacker's device.
_MESSAGE_BYTES, _MOST_IN_MESSAGE = 8e6, 32
_TIMEOUT = 3600.0
# Passes of a decoder.
_QUICK_EPOCHS = 15


def audit_study(subject: Subject, name: str, weights: Path, attacks: Sequence[dict[str, Any]]) -> str:
    """Return the study that audits `subject`, as TOML.

    Parameters
    ----------
    subject : Subject
    name : str
    weights : Path
        Folder of the trained weights.
    attacks : sequence of dict
        The study's attacks.
    """
    import tomli_w

    request = subject.request
    widest = max(subject.costs[cut].bytes for cut in subject.cuts)
    own = {cut: {"weights": weights_of(weights, cut)} if request.frozen_encoder else {} for cut in subject.cuts}
    study: dict[str, Any] = {
        "name": name,
        "description": f"Audit of {Path(request.model).name} on {request.data}: the leakage of each cut",
        "seeds": list(range(request.seeds)),
        "data": data_of(subject, clients=1),
        "model": {"name": request.model, "weights": weights_of(weights), "trained": True},
        "system": {"rounds": 1, "timeout": _TIMEOUT},
        "serve": {
            "victim_batch": 1,
            "attacker_batch": int(min(_MOST_IN_MESSAGE, max(1, _MESSAGE_BYTES // widest))),
            "in_process": False,
        },
        "threat": {
            "vantage": "gateway",
            "sees": ["activation"],
            "knows": ["surrogate", "queries", "architecture", "weights"],
        },
        "variants": [
            {"name": f"cut-{cut}", "title": f"Cut {cut}, after {subject.block(cut)}", "cut": cut, **own[cut]}
            for cut in by_priority(subject.cuts, subject.costs)
        ],
        "attacks": list(attacks),
    }
    return f"# Written by `wireleak audit`; change it and run it with `wireleak run`.\n{tomli_w.dumps(study)}"


def weights_of(folder: Path, cut: int | None = None) -> str:
    """Return the file of trained weights, with {seed} for the seed; with a frozen encoder, each cut has its own."""
    return str(folder / ("seed{seed}.safetensors" if cut is None else f"seed{{seed}}-cut{cut}.safetensors"))


def cheap_attacks(subject: Subject) -> list[dict[str, Any]]:
    """Return attacks that take seconds: linear decoders or word sets, and a probe for each attribute."""
    attacks: list[dict[str, Any]] = []
    if not subject.is_text:
        attacks.append({"name": "linear", "targets": ["input"], "untrained": "never"})
    return [*attacks, *_word_sets(subject), *_probes(subject, "never")]


def strong_attacks(subject: Subject, cuts: Sequence[int], *, untrained: str = "never") -> list[dict[str, Any]]:
    """Return several attacks on the input at some cuts, of which the strongest counts; none for texts."""
    if subject.is_text or not cuts:
        return []
    quick = subject.request.quick
    options: dict[str, Any] = {"epochs": _QUICK_EPOCHS} if quick else {}
    where = {"variants": [f"cut-{cut}" for cut in cuts]}
    attacks: list[dict[str, Any]] = [
        {"name": "inversion", "targets": ["input"], "untrained": untrained, "options": options} | where,
        {"name": "inverse-network", "targets": ["input"], "untrained": "never", "options": options} | where,
    ]
    for cut in [] if quick else cuts:
        # A forward and a backward pass cost three times the device's forward pass.
        steps = round(_SEARCH_FLOPS / (3 * max(subject.costs[cut].flops, 1) * subject.counts.victims))
        if steps >= _SEARCH_STEPS[0]:
            search = {"name": "rmle", "targets": ["input"], "untrained": "never", "variants": [f"cut-{cut}"]}
            attacks.append(search | {"options": {"iterations": min(steps, _SEARCH_STEPS[1])}})
    return attacks


def all_attacks(subject: Subject) -> list[dict[str, Any]]:
    """Return every attack at every cut, where no budget asks for less."""
    untrained = "never" if subject.request.quick else "first seed"
    strong = strong_attacks(subject, subject.cuts, untrained=untrained)
    return [*strong, *_word_sets(subject), *_probes(subject, untrained)]


def _word_sets(subject: Subject) -> list[dict[str, Any]]:
    """Return an attack on texts; a cut that sends one vector for each word is read word by word after the run."""
    shapes = {cut: subject.network.activation_shape(cut) for cut in subject.cuts} if subject.is_text else {}
    mixed = [cut for cut, shape in shapes.items() if len(shape) != 2 or shape[0] != subject.dataset.input_shape[0]]
    if not mixed:
        return []
    use = {"name": "word-set", "targets": ["input"], "untrained": "never"}
    return [use | {"variants": [f"cut-{cut}" for cut in mixed], "options": {"model": "logistic"}}]


def _probes(subject: Subject, untrained: str) -> list[dict[str, Any]]:
    if not subject.dataset.attributes:
        return []
    return [{"name": "attributes", "targets": list(subject.dataset.attributes), "untrained": untrained}]
