"""Rules between a study's tables; a broken rule gives one line that names the field and the fix."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from wireleak.common.config import first_mistake
from wireleak.common.plan import TrainingPlan
from wireleak.common.registry import unknown
from wireleak.lab.study.tables import Device, Published, Stream, Tables, Variant

_TRAINER_MIB = 1024


def mistakes(study: Tables) -> Iterator[str]:
    """Yield a line for each rule that a study breaks; it begins with the field."""
    yield from _names(study)
    yield from _devices(study)
    for variant in study.variants:
        for mistake in _of_variant(study, variant):
            yield f"variants.{variant.name}.{mistake}"
    yield from _data(study)


def _names(study: Tables) -> Iterator[str]:
    names = [variant.name for variant in study.variants]
    if len(set(names)) != len(names):
        yield f"variants: two are called {next(name for name in names if names.count(name) > 1)!r}; rename one"
    for one in study.variants:
        others = [name for name in names if name != one.name]
        if one.against and one.against not in others:
            yield f"variants.{one.name}.against: {unknown('variant', one.against, others)}"
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
        name, target, variant = twice[0]
        yield f"attacks.{name}: runs twice on target {target} of variant {variant}; give one of them a label"
    for figure in study.published:
        uses = {attack.shown for attack in study.attacks if figure.variant in (attack.variants or names)}
        if figure.variant not in names or (figure.attack and figure.attack not in uses):
            yield f"published: {_unmatched(figure, names, uses)}"


def _devices(study: Tables) -> Iterator[str]:
    names, variants = [device.name for device in study.devices], [variant.name for variant in study.variants]
    attacks = {attack.shown for attack in study.attacks}
    for device in study.devices:
        where = f"devices.{device.name}"
        if names.count(device.name) > 1:
            yield f"devices: two are called {device.name!r}; rename one"
        if device.name in ("attacker", "victim"):
            yield f"{where}.name: is the name of the host's own device; choose another"
        if device.role == "train":
            yield from _trainer(study, device)
        elif not study.serve.devices:
            yield f"{where}: serves inputs, but serve.devices = false; set it to true or remove the device"
        if missing := set(device.variants or ()) - set(variants):
            yield f"{where}.variants: {unknown('variant', min(missing), variants)}"
        if missing := set(device.attacks or ()) - attacks:
            yield f"{where}.attacks: {unknown('attack', min(missing), attacks)}"
        for variant in study.variants:
            if device in study.devices_on(variant) and f"{variant.name}-{device.name}" in variants:
                yield f"{where}.name: results of {variant.name}-{device.name} belong to that variant; choose another"


def _trainer(study: Tables, device: Device) -> Iterator[str]:
    where = f"devices.{device.name}"
    if device.board != "pi4":
        yield f'{where}.board: torch was tried only on Cortex-A72; set board = "pi4"'
    if device.memory < _TRAINER_MIB:
        yield f"{where}.memory: {device.memory} MiB are too few for torch and Flower; give {_TRAINER_MIB} or more"
    for variant in study.variants:
        trainer = study.trainer_on(variant)
        if trainer is None or (device.variants is not None and variant.name not in device.variants):
            continue
        if trainer != device:
            yield f"{where}.role: {trainer.name} trains in variant {variant.name} already; give each its own variants"
        if not variant.linked or study.clients_of(variant) < 2:
            yield f"{where}.role: variant {variant.name} needs 2 clients or more, as processes; the Pi is the last one"


def _unmatched(figure: Published, variants: list[str], attacks: set[str]) -> str:
    if figure.variant not in variants:
        return unknown("variant", figure.variant, variants)
    return f"{unknown('attack', figure.attack, sorted(attacks))} (the attacks on variant {figure.variant})"


def _data(study: Tables) -> Iterator[str]:
    if study.data.overlap and study.data.disjoint_by:
        yield "data.overlap: contradicts data.disjoint_by; remove one of them"
    if study.data.partition.startswith("by_") and study.data.by is None:
        yield f'data.by: is missing; partition = "{study.data.partition}" needs the name of an attribute or group'


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
            yield "stream: the study has no [data.stream] to change; add that table or remove stream"
    except ValidationError as error:
        yield f"stream.{first_mistake(error, Stream)}"


def _training(study: Tables, variant: Variant) -> Iterator[str]:
    plan = study.plan_of(variant)
    mode, autoencodes = plan.mode, plan.objective == "autoencoder"
    if "cut" not in variant.model_fields_set and (mode == "split" or study.serve.devices):
        yield "cut: is missing; give the number of the block after which the device sends its activations"
    if plan.privacy:
        if variant.server == "hijack":
            yield (
                "privacy: a hijacking server adds no noise and may mix examples, so nothing is guaranteed; "
                "remove privacy or server"
            )
        if autoencodes:
            yield 'privacy: an autoencoder trains without noise; set objective = "task" or remove privacy'
        if plan.optimiser != "adam":
            yield "privacy: DP-SGD uses privacy.optimiser; remove system.optimiser"
    if (variant.server == "hijack" or autoencodes) and mode != "split":
        yield f'mode: a hijacking server or an autoencoder needs mode = "split", not "{mode}"'
    if variant.pad is not None and mode != "split" and not study.serve.devices:
        yield "pad: devices and the head send no messages in this variant; remove pad or set serve.devices = true"


def _federation(study: Tables, variant: Variant) -> Iterator[str]:
    plan = study.plan_of(variant)
    mode, hidden = plan.mode, variant.encrypted or plan.secure
    if variant.initial and mode != "federated":
        yield f'initial: needs mode = "federated", not "{mode}"'
    if variant.participant and mode == "split":
        honest = plan.objective == "task" and not plan.frozen_encoder and not plan.privacy
        if variant.server == "hijack" or not honest or variant.transforms:
            yield (
                "participant: in split mode it imitates clients that train an encoder on the task; remove server, "
                "objective, frozen_encoder, privacy and transforms, or the participant"
            )
    if plan.secure and study.clients_of(variant) < 3:
        yield f"clients: secure aggregation needs 3 clients or more, not {study.clients_of(variant)}"
    if variant.participant and hidden:
        yield (
            "participant: a malicious participant reads its own link, which TLS or secure aggregation hides; "
            "remove the participant, or the protection"
        )
    links = mode != "federated" or study.serve.devices or variant.encrypted
    if not variant.linked and links:
        yield (
            f'engine: "{variant.engine}" has no links; set mode = "federated", serve.devices = false and '
            'link = "plaintext"'
        )
    if variant.engine == "simulation" and variant.participant:
        yield 'engine: a simulation has no malicious participant; remove it, or set engine = "in-process"'
    if variant.engine == "in-process" and plan.secure:
        yield 'engine: secure aggregation needs processes; remove engine = "in-process"'
