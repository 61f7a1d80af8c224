"""Sentences on the guarantees of private training and of transforms, and on measurements outside them."""

from __future__ import annotations

from wireleak.common.measures import quantity
from wireleak.common.measures.bounds.accounting import joint_noise_multiplier
from wireleak.common.targets.input import Input
from wireleak.lab.report.boards import boards
from wireleak.lab.run.results import Grant, Private, Results, VariantSummary

# Messages that only federated training sends.
_TRAINING = {"model-update", "global-model"}
_COVERED = "This guarantee covers the training examples of the network"
_OUTSIDE = f"{_COVERED}. It does not cover the inputs of inference, which these attacks target, for any ε."
_INSIDE = f"{_COVERED}, which these attacks target. It does not cover the inputs of inference, for any ε."
_BOTH = (
    f"{_COVERED}, which the attacks on updates and models target. It does not cover the inputs of inference, which the "
    "other attacks target, for any ε."
)


def private_training(results: Results, titles: dict[str, str]) -> list[str]:
    """Return paragraphs on each variant's guarantee, its limits, and the attacks measured outside it.

    Returns
    -------
    list of str
        Empty where no variant trained privately.
    """
    private = [variant for variant in results.variants if variant.privacy]
    if not private:
        return []
    plain = [variant for variant in results.variants if not variant.privacy]
    lines = [_guarantee(results, variant, titles[variant.name]) for variant in private]
    if plain:
        bare = "; ".join(f"{titles[one.name]} {_task(results, one.name, 'accuracy')}" for one in plain)
        lines.append(f"Accuracy without private training: {bare}.")
    limits = _INSIDE if of_training(results) else _BOTH if any(map(_on_training, results.grants)) else _OUTSIDE
    every = [*private, *plain]
    return [*lines, *_proved(results, every, titles), " ".join([limits, *_measured(results, every, titles)])]


def of_training(results: Results) -> bool:
    """Return whether every attack of a run was on federated training, and none on the inputs of inference."""
    return bool(results.grants) and all(map(_on_training, results.grants))


def _on_training(grant: Grant) -> bool:
    return bool(_TRAINING & set(grant.sees))


def wire_transforms(results: Results, titles: dict[str, str]) -> list[str]:
    """Return sentences on each variant's transforms of sent data and their guarantees; may be empty."""
    lines = []
    for variant in results.variants:
        if variant.transforms:
            # Runs recorded by earlier versions hold only the names of the transforms.
            done = "; then ".join(variant.changes or variant.transforms)
            said = "; ".join(variant.guarantees) or "no guarantee"
            lines.append(f"{titles[variant.name]}, before sending: {done}. {said}.{_audited(results, variant.name)}")
        if variant.pad is not None:
            to = "a power of two" if variant.pad == "powers" else f"a multiple of {variant.pad:,} bytes"
            lines.append(
                f"{titles[variant.name]}: messages between devices and the head are padded to {to}. Their number and "
                "times stay visible, and Flower's messages are not padded."
            )
    return lines


def _audited(results: Results, variant: str) -> str:
    """Return what the audit of a variant's noise found, and the smallest fault that it would have seen."""
    audit = next((one for one in results.audits if one.variant == variant), None)
    if audit is None:
        return ""
    share = f"{audit.errors / audit.messages:.2%}"
    found = f"{audit.messages:,} messages of two known tensors were told apart with {share} errors"
    if not audit.holds:
        verdict = f"REFUTED: ε is at least {audit.lower:.3g}, not the promised {audit.promised:.3g} (99.9 %)"
    else:
        verdict = f"This proves ε ≥ {audit.lower:.3g} of the promised {audit.promised:.3g} (99.9 %)"
    seen = f"Noise of {audit.smallest_fault:.2f} times the promised would be refuted with probability .95"
    if audit.smallest_fault < 0.5:
        seen += "; half might not be"
    return f" Audit: {found}; the noise allows no fewer than {audit.allowed:.2%}. {verdict}. {seen}."


def _guarantee(results: Results, variant: VariantSummary, title: str) -> str:
    how = variant.privacy
    assert how is not None
    spent = _task(results, variant.name, "epsilon")
    return (
        f"{title}: DP-SGD (Opacus, {how.optimiser}), ε = {spent} at δ = {how.delta:g} by Rényi accounting. The unit is "
        f"one training example among a client's {how.examples:,}. Each step draws every example with a chance of 1 in "
        f"{how.steps_an_epoch} (Poisson sampling), clips its gradient to {how.max_grad_norm:g} and adds noise of "
        f"{how.noise_multiplier:g} times that.{_split(how) if variant.mode == 'split' else ''} "
        f"Accuracy {_task(results, variant.name, 'accuracy')}."
    )


def _split(how: Private) -> str:
    """Return the limits of the guarantee where device and head train privately on both sides of a wire."""
    joint = joint_noise_multiplier(how.noise_multiplier, how.noise_multiplier)
    return (
        " The device adds noise to the encoder's gradient and the head to its own, on the same sample. Together they "
        f"form one Gaussian mechanism of noise multiplier {joint:.3g} ({how.noise_multiplier:g}/√2); ε is computed for "
        "it. It covers the released weights of encoder and head, if the head is honest. It covers neither "
        "activations nor gradients nor labels, which cross the wire in training without noise. The server sees them, "
        "and an eavesdropper on a link that is not encrypted sees them in the clear."
    )


def _proved(results: Results, variants: list[VariantSummary], titles: dict[str, str]) -> list[str]:
    """Return a paragraph for each attack on canaries: the epsilon that it proves, next to the accounted one."""
    found = [board for board in boards(results.rows) if board.get("canary-epsilon")]
    lines = []
    for attack in dict.fromkeys(board.attack for board in found):
        said = []
        for variant in variants:
            board = next((one for one in found if (one.attack, one.variant) == (attack, variant.name)), None)
            if board is not None and (score := board.get("canary-epsilon")):
                of = f" of {_task(results, variant.name, 'epsilon')}" if variant.privacy else ""
                said.append(f"{titles[variant.name]} ε ≥ {score.written}{of}")
        lines.append(f"Audit by canaries, {attack}, mean over seeds (95 % for each): {'; '.join(said)}.")
    return lines


def _measured(results: Results, variants: list[VariantSummary], titles: dict[str, str]) -> list[str]:
    """Return one sentence for each attack on inputs: its headline scores in every variant."""
    found = [board for board in boards(results.rows) if board.target == Input.name and board.link != "tls"]
    sentences = []
    for attack in dict.fromkeys(board.attack for board in found):
        said = []
        for variant in variants:
            board = next((one for one in found if (one.attack, one.variant) == (attack, variant.name)), None)
            scores = [score for name in ("mse", "reid") if board and (score := board.get(name))]
            figures = ", ".join(f"{quantity(one.measure).label} {one.written} {one.interval}".strip() for one in scores)
            said += [f"{titles[variant.name]} {figures}"] if figures else []
        sentences.append(f"Measured, {attack} on victims' inputs: {'; '.join(said)}.")
    return sentences


def _task(results: Results, variant: str, name: str) -> str:
    """Return a metric of training over seeds as text: its mean, or the largest epsilon."""
    values = [task.value for task in results.tasks if (task.variant, task.measure) == (variant, name)]
    if not values:
        return "–"
    return quantity(name).write(max(values) if name == "epsilon" else sum(values) / len(values))
