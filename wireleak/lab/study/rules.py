"""Rules that a study's tables keep together; each broken one is a line that names the field and the fix."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from wireleak.common.config import first_mistake
from wireleak.common.plan import TrainingPlan
from wireleak.common.registry import unknown
from wireleak.lab.study.tables import Stream, Tables, Variant


def mistakes(study: Tables) -> Iterator[str]:
    """Yield the rules that a study breaks, field first."""
    yield from _names(study)
    for variant in study.variants:
        for mistake in _of_variant(study, variant):
            yield f"variants.{variant.name}.{mistake}"
    yield from _data(study)


def _names(study: Tables) -> Iterator[str]:
    names = [variant.name for variant in study.variants]
    if len(set(names)) != len(names):
        yield "variants: two have the same name; rename one"
    for attack in study.attacks:
        if missing := set(attack.variants or ()) - set(names):
            yield f"attacks.{attack.name}.variants: {unknown('variant', min(missing), names)}"
    shown = [
        (attack.shown, target, variant)
        for attack in study.attacks
        for target in attack.targets
        for variant in attack.variants or names
    ]
    if twice := [key for key in shown if shown.count(key) > 1]:
        yield f"attacks.{twice[0][0]}: used twice on {twice[0][1]} of {twice[0][2]}; give one a label"
    for figure in study.published:
        uses = {attack.shown for attack in study.attacks if figure.variant in (attack.variants or names)}
        if figure.variant not in names or (figure.attack and figure.attack not in uses):
            yield f"published: no attack {figure.attack!r} runs on a variant {figure.variant!r} here"


def _data(study: Tables) -> Iterator[str]:
    if study.data.overlap and study.data.disjoint_by:
        yield "data.overlap: contradicts data.disjoint_by; drop one"
    if study.data.partition.startswith("by_") and study.data.by is None:
        yield f'data.by: partition = "{study.data.partition}" needs a name to go by'


def _of_variant(study: Tables, variant: Variant) -> Iterator[str]:
    overrides = list(_overrides(study, variant))
    yield from overrides
    if not overrides:
        yield from _training(study, variant)
        yield from _federation(study, variant)


def _overrides(study: Tables, variant: Variant) -> Iterator[str]:
    try:
        study.plan_of(variant)
    except ValidationError as error:
        yield f"system.{first_mistake(error, TrainingPlan)}"
    try:
        if study.stream_of(variant) is None and variant.stream:
            yield "stream: the study has no [data.stream] to change"
    except ValidationError as error:
        yield f"stream.{first_mistake(error, Stream)}"


def _training(study: Tables, variant: Variant) -> Iterator[str]:
    plan = study.plan_of(variant)
    mode, autoencodes = plan.mode, plan.objective == "autoencoder"
    if "cut" not in variant.model_fields_set and (mode == "split" or study.serve.devices):
        yield "cut: is missing; say after which block a device sends"
    if plan.privacy:
        if variant.server == "hijack":
            yield "privacy: a hijacked server adds no noise and may mix examples, so nothing is guaranteed; drop one"
        if autoencodes:
            yield 'privacy: an autoencoder trains without noise; set objective = "task" or drop privacy'
        if plan.optimiser != "adam":
            yield "privacy: DP-SGD has an optimiser of its own, privacy.optimiser; drop system.optimiser"
    if (variant.server == "hijack" or autoencodes) and mode != "split":
        yield 'mode: a hijacked server and autoencoders need mode = "split"'
    if variant.pad is not None and mode != "split" and not study.serve.devices:
        yield "pad: pads what devices and the head send one another, and here they send nothing; drop it"


def _federation(study: Tables, variant: Variant) -> Iterator[str]:
    plan = study.plan_of(variant)
    mode, hidden = plan.mode, variant.encrypted or plan.secure
    if mode == "split" and (study.data.stream or not study.serve.devices):
        yield 'mode: data.stream and serve.devices = false need mode = "federated"'
    for field in ("participant", "initial"):
        if getattr(variant, field) and mode != "federated":
            yield f'{field}: needs mode = "federated"'
    if plan.secure and study.clients_of(variant) < 3:
        yield "clients: secure aggregation needs 3 clients or more to hide among"
    if variant.participant and hidden:
        yield (
            "participant: what a malicious participant saw is read off its own link, which TLS or secure aggregation "
            "hides; drop one"
        )
    linked = mode != "federated" or study.serve.devices or variant.encrypted or variant.participant
    if variant.engine == "simulation" and linked:
        yield (
            'engine: a simulation has no links; it needs mode = "federated", serve.devices = false and neither TLS '
            "nor a malicious participant"
        )
