"""Attack a recorded capture, score the guesses where their ground truth is known, and write a page."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from rich.console import Console

from wireleak.common.targets.registry import TARGETS, target_of
from wireleak.common.targets.target import Target
from wireleak.common.threat import SIZES_AND_TIMES
from wireleak.common.traffic import Traffic
from wireleak.lab.launch.blind import blind_files
from wireleak.lab.launch.endings import with_progress
from wireleak.lab.launch.processes import Launcher
from wireleak.lab.launch.watch import say, working
from wireleak.lab.recorded.content import Content, check_link, read
from wireleak.lab.recorded.request import Request
from wireleak.lab.recorded.truth import Truth, labels_truth, serving_truth
from wireleak.lab.recorded.updates import cell_of, training_job
from wireleak.lab.steps.attack import attack_config, describe_attacks, find_attack, fit_and_guess
from wireleak.lab.study.schema import StudyError


def attack_capture(request: Request, console: Console) -> int:
    """Run one attack on a capture; print what it read, its scores if they are known, and the paths of its files.

    A second call with the same request does what is left of it.

    Parameters
    ----------
    request : Request
        It passed `Request.check`.
    console : Console
        Output for the scores.

    Returns
    -------
    int
        Exit status: 0, or 1 where the guess is only the prior.

    Raises
    ------
    StudyError
        An option is wrong or missing, the capture is of another stream, or nothing in it can be read.
    LaunchError
        The attack failed.
    """
    with console.status(request.attack), working(console) as work, Launcher(preload=False) as launcher:
        work.now("checking the request")
        attack = find_attack(describe_attacks(launcher), request.attack, "--attack")
        # Tables and pages are imported once the attack is known, so that a mistyped name is answered fast.
        from wireleak.lab.recorded.show import scored, scored_job, show

        sought = _sought(request, attack)
        sees_tensors, traffic = SIZES_AND_TIMES not in attack["threat"]["sees"], Traffic(attack["reads"])
        job = training_job(request, attack) if traffic is Traffic.FEDERATED_TRAINING else None
        if job is None:
            request.check_needs(attack, sees_tensors)
        work.now(f"reading {request.capture}")
        content = read(request.spooled(), launcher)
        content.check(request.attack, traffic, sees_tensors)
        log = request.guesses.path / "attack.log"
        work.state = partial(with_progress, f"{request.attack} on {request.name}", log)
        if job is None:
            truth, unscored = _truth(request, sought, traffic, content, launcher)
            config = _config(request, attack, sought, content, truth)
        else:
            config, _ = attack_config(job, attack)
        if (held := request.claim(config)) is not None:
            say(console, held)
        if not request.guesses.guesses.is_file():
            fit_and_guess(launcher, request.attack, config, log)
        work.now("scoring the guesses")
        guessed = scored(request, attack, sought, content, truth, unscored) if job is None else scored_job(job)
        return show(request, attack, content, guessed, console)


def _sought(request: Request, attack: dict[str, Any]) -> Target[Any]:
    sought, guessed = target_of(request.target), TARGETS.get(attack["targets"])
    if not isinstance(sought, guessed):
        raise StudyError(f"--target: {request.attack} guesses {guessed.guessed}, not {request.target!r}")
    return sought


def _truth(
    request: Request, sought: Target[Any], traffic: Traffic, content: Content, launcher: Launcher
) -> tuple[Truth | None, str]:
    """Return the ground truth of the capture, or None and the reason why guesses cannot be scored."""
    cell = cell_of(request.cell) if request.of_run else None
    if traffic is Traffic.SPLIT_TRAINING:
        return labels_truth(content.path, cell, launcher), ""
    if cell is None or not cell.ledger.is_file():
        return None, "the victims' inputs are not known outside a run"
    if not check_link(content.path, request.cell, [device.name for device in cell.devices], content):
        return None, f"nothing shows that {content.path.name} is of this run's victims"
    truth = serving_truth(cell, sought)
    if content.activations > truth.count:
        raise StudyError(
            f"CAPTURE: {content.path.name} holds {content.activations} activations, and this run's victims sent "
            f"{truth.count}; give serve-victim.pcap, or this capture from outside the run"
        )
    if content.late:
        return None, "the start of the connection is missing, so it is not known which inputs these are"
    return truth, ""


def _config(
    request: Request, attack: dict[str, Any], sought: Target[Any], content: Content, truth: Truth | None
) -> dict[str, Any]:
    """Return the config of the adversary's process."""
    knows, traffic, out = set(attack["threat"]["knows"]), Traffic(attack["reads"]), request.guesses.path
    captures = {"victims": [str(content.path)]}
    device = request.given("device")
    if knows & {"queries", "pairs"} or (traffic is Traffic.SERVING and device.is_file()):
        captures["device"] = [str(device)]
    surrogate = request.given("surrogate")
    return {
        "attack": request.attack,
        "target": request.target,
        "seed": request.seed,
        "options": request.settings,
        "captures": captures,
        "granted": _granted(request, knows, sought),
        "victims": request.victims or (content.activations if truth is None else truth.count),
        "classes": _model(request)["classes"] if traffic is Traffic.SPLIT_TRAINING else 0,
        "out": str(out),
        **blind_files(surrogate, request.folder / "public.npz", out, knows),
    }


def _granted(request: Request, knows: set[str], sought: Target[Any]) -> dict[str, Any]:
    """Return the files that the attack's threat model knows: the user's, else the run's."""
    granted: dict[str, Any] = {"surrogate": str(request.given("surrogate"))}
    if knows & {"architecture", "weights", "head"}:
        granted["model"] = _model(request)
    granted |= {
        name: str(request.given(name)) for name, grant in (("encoder", "weights"), ("head", "head")) if grant in knows
    }
    named = {sought.grants, "candidates" if "candidates" in knows else None}
    files = {path.stem: str(path) for path in request.cell.all_granted() if path.stem in named}
    if request.cell.hijack.is_dir():
        files["hijack"] = str(request.cell.hijack)
    return granted | {"files": files}


def _model(request: Request) -> dict[str, Any]:
    path = request.given("model")
    try:
        content = json.loads(path.read_text())
        model: dict[str, Any] = content.get("model", content)
        return {name: model[name] for name in ("name", "input_shape", "classes", "cut")}
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"--model: {path} is not the JSON config of a network ({error})") from None
