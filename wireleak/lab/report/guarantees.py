"""What private training and noised wires guarantee, and what was measured outside that, in words made by rule."""

from __future__ import annotations

from wireleak.common.measures import quantity
from wireleak.common.measures.bounds.accounting import joint_noise_multiplier
from wireleak.common.targets.input import Input
from wireleak.lab.report.boards import boards
from wireleak.lab.run.results import Private, Results, VariantSummary

_OUTSIDE = (
    "This guarantee covers the examples that the network was trained on. It does not cover the inputs of inference, "
    "which are what is attacked here, whatever ε is."
)


def private_training(results: Results, titles: dict[str, str]) -> list[str]:
    """Paragraphs on each variant's guarantee, what it does not cover, and what was measured there.

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
    return [*lines, " ".join([_OUTSIDE, *_measured(results, [*private, *plain], titles)])]


def wire_transforms(results: Results, titles: dict[str, str]) -> list[str]:
    """Sentences on what devices did to what they send, and what that guarantees; may be empty."""
    lines = []
    for variant in results.variants:
        if variant.transforms:
            # What a step changes opens with its name; runs recorded before it was kept have the names alone.
            done = "; then ".join(variant.changes or variant.transforms)
            said = "; ".join(variant.guarantees) or "no guarantee"
            lines.append(f"{titles[variant.name]}, before sending: {done}. {said}.")
        if variant.pad is not None:
            to = "a power of two" if variant.pad == "powers" else f"a multiple of {variant.pad:,} bytes"
            lines.append(
                f"{titles[variant.name]}: messages between devices and the head are padded to {to}. Their number and "
                "times stay visible, and Flower's messages are not padded."
            )
    return lines


def _guarantee(results: Results, variant: VariantSummary, title: str) -> str:
    how = variant.privacy
    assert how is not None
    spent = _task(results, variant.name, "epsilon")
    return (
        f"{title}: DP-SGD (Opacus, {how.optimiser}), ε = {spent} at δ = {how.delta:g} by Rényi accounting; unit: one "
        f"training example among a client's {how.examples:,}; each step draws every example with a chance of 1 in "
        f"{how.steps_an_epoch} (Poisson sampling), clips its gradient to {how.max_grad_norm:g} and adds noise of "
        f"{how.noise_multiplier:g} times that.{_split(how) if variant.mode == 'split' else ''} "
        f"Accuracy {_task(results, variant.name, 'accuracy')}."
    )


def _split(how: Private) -> str:
    """What else there is to say where device and head train privately on the two sides of a wire."""
    joint = joint_noise_multiplier(how.noise_multiplier, how.noise_multiplier)
    return (
        " The device does so with its encoder and the head with itself, on the same sample: together one Gaussian "
        f"mechanism of noise multiplier {joint:.3g} ({how.noise_multiplier:g}/√2), which ε is of. It covers the "
        "weights of encoder and head that are released, if the head is honest. It covers neither activations nor "
        "gradients nor labels, which cross the wire in training as they are: the server sees them, and an eavesdropper "
        "on a link that is not encrypted sees them in the clear."
    )


def _measured(results: Results, variants: list[VariantSummary], titles: dict[str, str]) -> list[str]:
    """One sentence an attack on inputs: its headline figures in every variant."""
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
    """A figure of the training over seeds, as people read it: its mean, or the largest epsilon."""
    values = [task.value for task in results.tasks if (task.variant, task.measure) == (variant, name)]
    if not values:
        return "–"
    return quantity(name).write(max(values) if name == "epsilon" else sum(values) / len(values))
