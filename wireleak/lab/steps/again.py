"""Attack an earlier capture, and score the guesses where the run's ground truth is available."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from wireleak.common.measures import Score, quantity
from wireleak.common.references import reference
from wireleak.common.registry import unknown
from wireleak.common.targets.registry import TARGETS, target_of
from wireleak.common.targets.target import Target
from wireleak.common.traffic import Traffic
from wireleak.lab.launch.blind import blind_files, own_folder
from wireleak.lab.launch.processes import Launcher
from wireleak.lab.run import truth as ground_truth
from wireleak.lab.run.attack_folder import AttackFolder
from wireleak.lab.run.kept import TRAINING
from wireleak.lab.run.layout import CellFolder, existing, link_of
from wireleak.lab.run.results import Row
from wireleak.lab.steps.again_updates import attack_training, cell_of
from wireleak.lab.steps.attack import ATTACK_SECONDS, describe_attacks, find_attack, fit_and_guess
from wireleak.lab.steps.score import named_guesses
from wireleak.lab.steps.wires import extract
from wireleak.lab.study.schema import StudyError


@dataclass(frozen=True)
class Given:
    """Files and values that the user names; None takes those of the capture's run.

    Parameters
    ----------
    device, surrogate : Path, optional
        The attacker's own capture, and the inputs that its device sent.
    encoder, head, model : Path, optional
        Weights (safetensors), and the JSON of the network's config, for attacks that know them.
    victims : int, optional
        Number of inputs that the victims sent.
    options : sequence of str
        The attack's options as "name=value", values in JSON.
    vantage : str, optional
        Vantage of an attack on federated training.
    """

    device: Path | None = None
    surrogate: Path | None = None
    encoder: Path | None = None
    head: Path | None = None
    model: Path | None = None
    victims: int | None = None
    options: list[str] = field(default_factory=list)
    vantage: str | None = None


def attack_again(
    capture: Path, attack: str, target: str, given: Given, seed: int, out: Path | None, console: Console
) -> None:
    """Run one attack on a capture, and print the path of its guesses and their scores if there is ground truth.

    Parameters
    ----------
    capture : Path
        The victims' capture.
    attack, target : str
        The attack's name, and "input", "label" or a private attribute.
    given : Given
        Files and values that replace those of the capture's run.
    seed : int
        Seed of the attack's random draws.
    out : Path, optional
        Folder for the guesses.
    console : Console
        Output for the scores.

    Raises
    ------
    StudyError
        An argument is wrong, or a needed file is missing.
    LaunchError
        The attack failed.
    """
    cell = CellFolder.holding(capture)
    capture = _existing(capture, "CAPTURE")
    out = (out or cell.attack(attack, f"{target}-again")).resolve()
    with console.status(f"{attack} on {capture.name}"), Launcher(preload=False) as launcher:
        described = describe_attacks(launcher)
        find_attack(described, attack, "--attack")
        sought, guessed = target_of(target), TARGETS.get(described[attack]["targets"])
        if not isinstance(sought, guessed):
            raise StudyError(f"--target: {attack} guesses {guessed.guessed}, not {target!r}")
        if described[attack]["reads"] == Traffic.FEDERATED_TRAINING:
            options = dict(_option(text) for text in given.options)
            rows = attack_training(cell, described[attack], target, given.vantage, options, out, launcher)
            console.print(f"guesses: {AttackFolder(out).guesses}", soft_wrap=True, highlight=False)
            console.print(_table((_shown(row.name, attack), row) for row in rows))
            return
        knows, reads = set(described[attack]["threat"]["knows"]), described[attack]["reads"]
        truth = _truth(cell, capture, target, sought, reads, launcher)
        victims = given.victims or (None if truth is None else truth.count)
        if victims is None:
            raise StudyError("--victims: the number of the victims' inputs is unknown outside a run; give it")
        captures = {"victims": [str(capture.resolve())]}
        device = given.device or capture.with_name("serve-attacker.pcap")
        if knows & {"queries", "pairs"} or (reads == Traffic.SERVING and existing(device).is_file()):
            captures["device"] = [str(_existing(device, "--device"))]
        config: dict[str, Any] = {
            "attack": attack,
            "target": target,
            "seed": seed,
            "options": dict(_option(text) for text in given.options),
            "captures": captures,
            "granted": _granted(cell, knows, sought, given),
            "victims": victims,
            "classes": _model(cell, given)["classes"] if reads == Traffic.SPLIT_TRAINING else 0,
            "out": str(out),
        }
        public = own_folder(out) / "public.npz"
        config |= blind_files(given.surrogate or cell.surrogate, public, out, knows)
        guesses = fit_and_guess(launcher, attack, config, out / "attack.log")
    console.print(f"guesses: {guesses}", soft_wrap=True, highlight=False)
    if truth is not None:
        scored = sought.score(named_guesses(guesses, attack), truth.values, seed)
        console.print(_table((_shown(one.guess, attack), one.score) for one in scored))


def _granted(cell: CellFolder, knows: set[str], sought: Target[Any], given: Given) -> dict[str, Any]:
    """Return the files that the attack's threat model knows: the user's, else the run's."""
    surrogate = given.surrogate or cell.surrogate
    granted: dict[str, Any] = {"surrogate": str(_existing(surrogate, "--surrogate"))}
    if knows & {"architecture", "weights", "head"}:
        granted["model"] = _model(cell, given)
    if "weights" in knows:
        granted["encoder"] = str(_existing(given.encoder or cell.encoder("victim"), "--encoder"))
    if "head" in knows:
        last = max(cell.rounds("head"), default=0)
        granted["head"] = str(_existing(given.head or cell.checkpoint("head", last), "--head"))
    named = {sought.grants, "candidates" if "candidates" in knows else None}
    files = {path.stem: str(path) for path in cell.all_granted() if path.stem in named}
    if cell.hijack.is_dir():
        files["hijack"] = str(cell.hijack)
    return granted | {"files": files}


def _model(cell: CellFolder, given: Given) -> dict[str, Any]:
    path = _existing(given.model or cell.device_config("victim"), "--model")
    try:
        content = json.loads(path.read_text())
        model: dict[str, Any] = content.get("model", content)
        return {name: model[name] for name in ("name", "input_shape", "classes", "cut")}
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"--model: {path} is not the JSON config of a network ({error})") from None


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise StudyError(f'--option: {text!r} is not "name=value"')
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _existing(path: Path, option: str) -> Path:
    if not existing(path).is_file():
        raise StudyError(f"{option}: no file {path}; give its path")
    return existing(path).resolve()


@dataclass(frozen=True)
class _Truth:
    """Ground truth in the form that a target scores, and the number of guesses."""

    values: Any
    count: int


def _truth(
    files: CellFolder, capture: Path, target: str, sought: Target[Any], reads: str, launcher: Launcher
) -> _Truth | None:
    """Return the run's ground truth; None outside a run, where only labels can be read off the captured link."""
    if reads == Traffic.SPLIT_TRAINING:
        client = link_of(capture).removeprefix(TRAINING)
        if files.run.study.is_file() and client in (cell := cell_of(files)).clients:
            labels = ground_truth.trained_labels(cell, client)
        else:
            labels = _labels_on_the_link(capture, launcher)
        return _Truth(labels, len(labels))
    if not files.ledger.is_file():
        return None
    known = [name.removeprefix("attribute:") for name in ground_truth.ledger(files) if name.startswith("attribute:")]
    if sought.attribute not in (None, *known):
        raise StudyError(f"--target: {unknown('target', target, ['input', *known])}")
    cell = cell_of(files)
    sealed = ground_truth.CellTruth(cell, cell.study.threat.vantage, sought, federated=False)
    return _Truth(sought.ground_truth(sealed), sought.count(sealed))


def _labels_on_the_link(capture: Path, launcher: Launcher) -> npt.NDArray[np.int64]:
    # Not in the attack's folder, which it reads.
    with tempfile.TemporaryDirectory() as scratch:
        path, log = Path(scratch) / "labels.npz", Path(scratch) / "labels.log"
        extract(launcher, "labels", "label", capture.resolve(), path, log, ATTACK_SECONDS)
        with np.load(path, allow_pickle=False) as stored:
            labels: npt.NDArray[np.int64] = stored["label"].astype(np.int64)
    return labels


def _shown(name: str, attack: str) -> str:
    """Return a row's name: the attack, or an indented baseline or reader."""
    return f"  {reference(name).label}" if name else attack


def _table(scored: Iterable[tuple[str, Score | Row]]) -> Table:
    table = Table("guess", "measure", "value", "95 % interval", "n", box=None)
    for name, one in scored:
        measure = quantity(one.measure)
        interval = f"[{measure.write(one.low)}, {measure.write(one.high)}]"
        table.add_row(name, measure.label, measure.write(one.value), interval, str(one.n))
    return table
