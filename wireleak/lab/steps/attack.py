"""Run the adversary on a cell's captures, with the files that its threat model grants."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from wireleak.common.files import replacing, write_atomically, write_json
from wireleak.common.plan import ClientPlan
from wireleak.common.registry import Listed, left_out, unknown
from wireleak.common.threat import PARTICIPANTS
from wireleak.common.traffic import Traffic
from wireleak.lab.launch.blind import blind_config, blind_files, check_own
from wireleak.lab.launch.endings import telling_line
from wireleak.lab.launch.granted import jail_of
from wireleak.lab.launch.jail import Jail, gap
from wireleak.lab.launch.processes import Launcher, LaunchError
from wireleak.lab.run.attack_folder import AttackFolder
from wireleak.lab.run.cell import UNTRAINED, Cell
from wireleak.lab.run.job import AttackJob
from wireleak.lab.run.kept import capture_for
from wireleak.lab.run.results import Step
from wireleak.lab.steps.bounds import write_candidates
from wireleak.lab.study.schema import Study, StudyError

ATTACK_SECONDS = 3600.0
# A party's answer takes a second; on a machine that is busy or short of memory it may take minutes.
_ANSWER_SECONDS = 600.0


class AttackKilledError(LaunchError):
    """The kernel killed an attack, mostly because memory was short; the run goes on without it."""


def describe_attacks(launcher: Launcher) -> dict[str, dict[str, Any]]:
    """Return the adversary's descriptions of its attacks (threat model, targets, options) by name.

    Those that it cannot load are named on stderr.
    """
    with tempfile.TemporaryDirectory() as scratch:
        log, jail = Path(scratch) / "describe.log", Jail(write=(Path(scratch),))
        argv = ["-m", "adversary", "describe"]
        launcher.finish(launcher.start("describe", argv, log, essential=False, jail=jail), _ANSWER_SECONDS)
        described: list[dict[str, Any]] = json.loads(_answered(log))
    for attack in described:
        if "error" in attack:
            print(left_out("attack", Listed(**attack)), file=sys.stderr, flush=True)
    return {attack["name"]: attack for attack in described}


def find_attack(described: Mapping[str, dict[str, Any]], name: str, field: str) -> dict[str, Any]:
    """Return the description of the attack called `name`.

    Raises
    ------
    StudyError
        The attack is unknown, or the adversary cannot load it; the message begins with `field`.
    """
    if name not in described:
        raise StudyError(f"{field}: {unknown('attack', name, sorted(described))}")
    attack = described[name]
    if "error" in attack:
        raise StudyError(f"{field}: attack {name!r} of {attack['source']} cannot be loaded: {attack['error']}")
    return attack


def check_transforms(
    study: Study, launcher: Launcher, attributes: Collection[str], *, words: bool = False
) -> dict[str, list[Step]]:
    """Return the changes and guarantees of each variant's transforms for one input, as the client states them.

    `words` says whether inputs are the word numbers of texts.

    Raises
    ------
    StudyError
        A transform or an option of it is unknown, or the data lack an attribute that it needs, or inputs are of another
        kind than it takes.
    """
    found = {}
    for variant in study.variants:
        if not variant.transforms:
            continue
        chain = json.dumps([step.model_dump() for step in variant.transforms])
        # A study's victims send each input once.
        argv = ["-m", "client", "transforms", chain, "--mode", study.plan_of(variant).mode]
        argv += ["--inputs", "words" if words else "numbers"]
        argv += ["--private"] * (study.plan_of(variant).privacy is not None)
        answer = _answer("transforms", argv, launcher, f"variants.{variant.name}.transforms: ")
        declared = TypeAdapter(list[Step]).validate_json(answer)
        for step in declared:
            if missing := set(step.private) - set(attributes):
                raise StudyError(
                    f"variants.{variant.name}.transforms.{step.name}: {unknown('attribute', min(missing), attributes)}"
                )
        found[variant.name] = declared
    return found


def check_plugins(study: Study, launcher: Launcher) -> None:
    """Check strategies, mods, participants and options of attacks with their parties, before any process starts.

    Raises
    ------
    StudyError
        A party does not know a plug-in or an option.
    """
    answered: set[tuple[str, ...]] = set()
    for variant in study.variants:
        plan = study.plan_of(variant)
        mods = json.dumps([mod.model_dump() for mod in plan.mods])
        clients = str(study.clients_of(variant))
        asked = [("system.strategy", ["server", "strategy", plan.strategy.model_dump_json(), "--clients", clients])]
        asked += [("system.mods", ["client", "mods", mods])] * bool(plan.mods)
        if variant.participant:
            chosen = variant.participant.model_dump_json(include={"name", "options"})
            asked.append(("participant", ["adversary", "participant", chosen, "--mode", plan.mode]))
        for field, (party, *arguments) in asked:
            # Most variants need the same check, and each check costs a process.
            if (party, *arguments) in answered:
                continue
            answered.add((party, *arguments))
            _answer("check", ["-m", party, *arguments], launcher, f"variants.{variant.name}.{field}: ")
    uses = json.dumps([use.model_dump(mode="json", include={"name", "options"}) for use in study.attacks])
    _answer("check", ["-m", "adversary", "options", uses], launcher)


def _answer(name: str, argv: list[str], launcher: Launcher, where: str = "") -> str:
    """Return the output of a party's command; a refusal is a `StudyError` that begins with `where`."""
    with tempfile.TemporaryDirectory() as scratch:
        log, jail = Path(scratch) / f"{name}.log", Jail(write=(Path(scratch),))
        try:
            launcher.finish(launcher.start(name, argv, log, essential=False, jail=jail), _ANSWER_SECONDS)
        except LaunchError:
            raise StudyError(f"{where}{telling_line(log)}") from None
        return _answered(log)


def _answered(log: Path) -> str:
    """Return the last line of a log, a party's answer; a plug-in may print others before it."""
    return (log.read_text().strip().splitlines() or [""])[-1]


def run_attack(
    job: AttackJob,
    launcher: Launcher,
    attack: dict[str, Any],
    timeout: float = ATTACK_SECONDS,
    env: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> None:
    """Run one attack to its end.

    Parameters
    ----------
    job : AttackJob
    launcher : Launcher
    attack : dict
        The adversary's description of the attack; only files of its threat model are granted.
    timeout : float
        Seconds after which it is stopped.
    env : mapping, optional
        Variables of its process.
    seconds : float, optional
        Time after which its training stops with what it has; by default it trains to its end.

    Raises
    ------
    LaunchError
        The attack failed.
    """
    config, log = attack_config(job, attack)
    fit_and_guess(launcher, job.name, config | ({} if seconds is None else {"seconds": seconds}), log, timeout, env)


def attack_config(job: AttackJob, attack: dict[str, Any]) -> tuple[dict[str, Any], Path]:
    """Write the files that an attack is granted; return its config and the path of its log."""
    cell = job.cell
    config = {
        "attack": job.use.name,
        "target": job.target,
        "seed": cell.seed_of("attack", job.use.name, job.target, bits=31),
        "options": job.use.options,
        "granted": _granted(job, attack),
        "classes": cell.classes,
        "out": str(job.out),
        **_seen(job, attack),
        **blind_files(cell.surrogate, cell.granted("public.npz"), job.out, set(attack["threat"]["knows"])),
    }
    return config, job.log


def _seen(job: AttackJob, attack: dict[str, Any]) -> dict[str, Any]:
    """Return the captures that the attack gets, and the number of rows to guess."""
    cell, traffic = job.cell, Traffic(attack["reads"])
    if traffic is Traffic.FEDERATED_TRAINING:
        return updates_seen(job)
    if traffic is Traffic.SPLIT_TRAINING:
        seen = [str(capture_for(cell, f"train-{name}")) for name in cell.clients]
        return {"captures": {"victims": seen}, "victims": job.sought.count(job.truth(federated=False))}
    served = "victim" if job.device is None else job.device.name
    captures = {"device": [str(cell.capture("serve-attacker"))], "victims": [str(cell.capture(f"serve-{served}"))]}
    if cell.study.runs_untrained(job.use, cell.variant, cell.seed):
        captures["untrained_device"] = [str(capture_for(cell, f"{UNTRAINED}serve-attacker"))]
        captures["untrained_victims"] = [str(capture_for(cell, f"{UNTRAINED}serve-victim"))]
    # Only the client can apply its transforms, so the lab has no such tensors to hand over.
    in_process = job.sought.rebuilds and not cell.variant.encrypted and not cell.variant.transforms
    in_process = in_process and cell.study.serve.in_process
    tensors = _tensors_in_process(cell) if in_process else None
    return {"captures": captures, "tensors": tensors, "victims": job.sought.count(job.truth(federated=False))}


def updates_seen(job: AttackJob) -> dict[str, Any]:
    """Return the input of an attacker on federated training, by its vantage and target."""
    cell, vantage, truth = job.cell, job.vantage, job.truth(federated=True)
    own = 0 if vantage in PARTICIPANTS else None
    clients = cell.clients if own is None else cell.clients[:1]
    if own is not None and cell.participant_records:
        seen = [str(cell.kept)]
    elif vantage == "server":
        seen = [str(cell.received(name)) for name in clients]
    else:
        seen = [str(cell.capture(f"fleet-{name}")) for name in clients]
    stream = cell.study.stream_of(cell.variant)
    training = {
        "participants": len(cell.clients),
        "plan": cell.plan.model_dump(mode="json", include=set(ClientPlan.model_fields)),
        "examples": stream.batch if stream else max(1, cell.study.data.train // len(cell.clients)),
        "own": own,
        "privacy": cell.plan.privacy and cell.plan.privacy.model_dump(mode="json"),
        "released": vantage == "release",
        "units": truth.units(),
        "rounds": job.use.rounds,
    }
    return {"captures": {"victims": seen}, "training": training, "victims": job.sought.count(truth)}


def _granted(job: AttackJob, attack: dict[str, Any]) -> dict[str, Any]:
    """Return the files that the attack's threat model knows."""
    cell = job.cell
    knows, rounds = set(attack["threat"]["knows"]), cell.plan.rounds
    granted: dict[str, Any] = {"surrogate": str(cell.surrogate)}
    if knows & {"architecture", "weights", "head"}:
        granted["model"] = cell.architecture() | {"seed": cell.seed_of("attack", job.use.name, "model", bits=31)}
    for what, stage in (("weights", "encoder"), ("head", "head")):
        if what in knows:
            copy = cell.weights(stage)
            write_atomically(copy, cell.checkpoint(stage, rounds).read_bytes(), shared=True)
            granted[stage] = str(copy)
    if "weights" in knows:
        granted["untrained_encoder"] = str(cell.encoder("victim", UNTRAINED))
    if cell.variant.server == "hijack":
        granted["files"] = {"hijack": str(cell.hijack)}
    if "candidates" in knows:
        granted["files"] = granted.get("files", {}) | {"candidates": str(write_candidates(cell))}
    if (name := job.sought.grants) is not None:
        granted["files"] = granted.get("files", {}) | {name: str(cell.granted(f"{name}.npz"))}
    return granted


def fit_and_guess(
    launcher: Launcher,
    name: str,
    config: dict[str, Any],
    log: Path,
    timeout: float = ATTACK_SECONDS,
    env: Mapping[str, str] | None = None,
) -> Path:
    """Run the adversary with an attack config (docs/explanation/processes.md) and return the path of its guesses.

    With "own" and "public" in the config, one process makes the guess without the surrogate examples, and another one
    computes the baselines.

    Raises
    ------
    AttackKilledError
        The kernel killed the attack.
    LaunchError
        The attack failed in another way.
    """
    out = AttackFolder(Path(config["out"]))
    if (own := config.get("own")) is not None:
        _run_process(launcher, name, blind_config(config), log, timeout, env)
        config = {field: value for field, value in config.items() if field != "public"}
    _run_process(launcher, name, config, log, timeout, env)
    if own is not None:
        check_own(AttackFolder(Path(own)), out, config["attack"])
    if (line := gap()) is not None:
        write_json(out.not_enforced, [line])
    return out.guesses


def _run_process(
    launcher: Launcher, name: str, config: dict[str, Any], log: Path, timeout: float, env: Mapping[str, str] | None
) -> None:
    out = AttackFolder(Path(config["out"]))
    argv = ["-m", "adversary", "attack", "--config", str(write_json(out.config, config))]
    jail = jail_of(out.config, config, out.path)
    process = launcher.start(name, argv, log, env, essential=False, jail=jail)
    try:
        launcher.finish(process, timeout)
    except LaunchError as error:
        launcher.stop([process])  # one that took too long still runs
        # The end of the fork server, or of a process that the run needs, ends all others.
        launcher.check()
        if process.poll() == -signal.SIGKILL and process.failed:
            why = f"{name} was killed by SIGKILL, probably because memory was short; see {log}"
            raise AttackKilledError(why, log) from error
        raise
    if not out.guesses.is_file():
        raise LaunchError(f"{name}: ended without guesses; see {log}")


def _tensors_in_process(cell: Cell) -> dict[str, str]:
    """Return activations of the same inputs, computed in this process without a wire.

    They feed the baseline "in-process", which shows the cost of the wire for the attacker.
    """
    import torch

    from wireleak.common.models import build, load_weights

    model = cell.model()
    network = build(model["name"], cell.input_shape, cell.classes, model["seed"])
    encoder, _ = network.split(cell.variant.cut)
    load_weights(encoder, cell.checkpoint("encoder", cell.plan.rounds))
    encoder.eval()
    paths = {}
    serve = cell.study.serve
    for role, device, batch in (
        ("device", "attacker", serve.attacker_batch),
        ("victims", "victim", serve.victim_batch),
    ):
        path = cell.tensors(device)
        if not path.exists():
            # Use the devices' batches, so that equal tensors are equal to the last bit.
            with np.load(cell.inputs(device)) as inputs, torch.inference_mode():
                batches = torch.split(torch.from_numpy(inputs["x"]), batch)
                activations = torch.cat([encoder(one) for one in batches]).numpy()
            with replacing(path, shared=True) as file:
                np.save(file, activations)
        paths[role] = str(path)
    return paths
