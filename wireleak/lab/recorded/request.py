"""The user's request, and everything in it that is wrong or missing, as one line before any process starts."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wireleak.common.files import replacing, write_json
from wireleak.common.traffic import Traffic
from wireleak.lab.run.attack_folder import AttackFolder
from wireleak.lab.run.cell import UNTRAINED
from wireleak.lab.run.layout import CellFolder, RunFolder, existing, link_of
from wireleak.lab.study.schema import StudyError

STDIN = Path("-")
_MEANINGS = {
    "surrogate": "the attacker's own inputs, .npz with x and y",
    "device": "the capture of the attacker's own device",
    "model": "the JSON of the network's config",
    "encoder": "the encoder's weights, .safetensors",
    "head": "the head's weights, .safetensors",
    "victims": "the number of inputs that the victims sent, because this attack sees no message",
}
_OWN_DEVICE = "serve-attacker"


@dataclass(frozen=True)
class Request:
    """An attack on a recorded capture; None takes a file or value from the capture's run.

    Parameters
    ----------
    capture : Path
        The victims' capture; "-" is standard input.
    attack, target : str
        The attack's name, and the thing that it guesses.
    device, surrogate : Path, optional
        The attacker's own capture, and the inputs that its device sent.
    encoder, head, model : Path, optional
        Weights (safetensors), and the JSON of the network's config, for attacks that know them.
    victims : int, optional
        Number of inputs that the victims sent; by default those that the capture holds.
    vantage : str, optional
        Vantage of an attack on federated training.
    options : list of str
        The attack's options as "name=value", values in JSON.
    seed : int
        Seed of the attack's random draws.
    out : Path, optional
        Folder for guesses and page; by default one in the working folder, named after capture, attack and target.
    """

    capture: Path
    attack: str
    target: str
    device: Path | None = None
    surrogate: Path | None = None
    encoder: Path | None = None
    head: Path | None = None
    model: Path | None = None
    victims: int | None = None
    vantage: str | None = None
    options: list[str] = field(default_factory=list)
    seed: int = 0
    out: Path | None = None

    @property
    def piped(self) -> bool:
        """Whether the capture is read once, from standard input or a pipe."""
        return self.capture == STDIN or (self.capture.exists() and not self.capture.is_file())

    @property
    def name(self) -> str:
        """The capture's name without its endings."""
        return "stdin" if self.piped else link_of(self.capture)

    @property
    def folder(self) -> Path:
        """Folder of guesses and page."""
        return (self.out or Path.cwd() / f"{self.name}-{self.attack}-{self.target}").resolve()

    @property
    def guesses(self) -> AttackFolder:
        """Folder in which the attack's process writes."""
        return AttackFolder(self.folder / "attack")

    @property
    def record(self) -> Path:
        """File that says what the folder's guesses are of."""
        return self.folder / "asked.json"

    @property
    def cell(self) -> CellFolder:
        """The folder that would hold the capture, were it a run's."""
        return CellFolder(self.folder) if self.piped else CellFolder.holding(self.capture)

    @property
    def of_run(self) -> bool:
        """Whether the capture lies in a run, whose plan is there."""
        return not self.piped and self.cell.run.plan.is_file()

    @property
    def settings(self) -> dict[str, Any]:
        """The attack's options."""
        return dict(_option(text) for text in self.options)

    def given(self, name: str) -> Path:
        """Return the file of an option: the user's, else the one that the capture's run has."""
        own: Path | None = getattr(self, name)
        if own is not None:
            return existing(own).resolve()
        cell, before = self.cell, UNTRAINED if link_of(self.capture).startswith(UNTRAINED) else ""
        places = {
            "surrogate": cell.surrogate,
            "device": self.capture.with_name(f"{before}{_OWN_DEVICE}.pcap"),
            "model": cell.device_config("victim"),
            "encoder": cell.encoder("victim", before),
            "head": cell.checkpoint("head", max(cell.rounds("head"), default=0)),
        }
        return existing(places[name]).resolve()

    def check(self) -> None:
        """Check what needs no other process: files that were named, options, and the folder.

        Raises
        ------
        StudyError
            One line that names everything that is wrong.
        """
        wrong = []
        if not self.piped and not existing(self.capture).is_file():
            wrong.append(f"CAPTURE: no file {self.capture}; give its path, or - for standard input")
        for name in ("device", "surrogate", "encoder", "head", "model"):
            path: Path | None = getattr(self, name)
            if path is not None and not existing(path).is_file():
                wrong.append(f"--{name}: no file {path}; give its path")
        for text in self.options:
            if "=" not in text:
                wrong.append(f'--option: {text!r} is not "name=value"')
        if self.folder.exists() and not self.folder.is_dir():
            wrong.append(f"--out: {self.folder} is a file; name a folder")
        if wrong:
            raise StudyError("; ".join(wrong))

    def check_needs(self, attack: dict[str, Any], sees_tensors: bool) -> None:
        """Check that all files are there which an attack's threat model needs.

        Raises
        ------
        StudyError
            One line that names everything that is missing.
        """
        knows: Collection[str] = attack["threat"]["knows"]
        needed = ["surrogate"]
        if {"queries", "pairs"} & set(knows):
            needed.append("device")
        if {"architecture", "weights", "head"} & set(knows) or attack["reads"] == Traffic.SPLIT_TRAINING:
            needed.append("model")
        needed += [name for name, grant in (("encoder", "weights"), ("head", "head")) if grant in knows]
        missing = [name for name in needed if not self.given(name).is_file()]
        if not sees_tensors and self.victims is None and not self.of_run:
            missing.append("victims")
        if missing:
            asked = ", ".join(f"--{name} ({_MEANINGS[name]})" for name in missing)
            where = "this run lacks it" if self.of_run else "the capture is not in a run"
            raise StudyError(f"{self.attack}: give {asked}; {where}")

    def spooled(self) -> Path:
        """Return the capture as a file; a pipe is copied into the folder until its end."""
        if not self.piped:
            return existing(self.capture).resolve()
        path = self.folder / "capture.pcap"
        with replacing(path) as file:
            if self.capture == STDIN:
                shutil.copyfileobj(sys.stdin.buffer, file)
            else:
                with self.capture.open("rb") as source:
                    shutil.copyfileobj(source, file)
        return path

    def claim(self, config: dict[str, Any]) -> str | None:
        """Record that the folder is for this attack.

        Returns
        -------
        str or None
            A line that says what the folder holds already, or None. Guesses of an equal request stay.
        """
        record = {"attack": self.attack, "target": self.target, "capture": str(self.capture)}
        record["fingerprint"] = _fingerprint(config)
        held = json.loads(self.record.read_text()) if self.record.is_file() else None
        guessed = self.guesses.guesses.is_file()
        if held == record:
            return f"{self.folder} holds these guesses already" if guessed else None
        run, shown = RunFolder(self.folder), AttackFolder(self.folder)
        for path in (self.guesses.guesses, shown.guesses, shown.meta, run.report, run.results, run.table, run.pictures):
            path.unlink(missing_ok=True)
        write_json(self.record, record)
        if held is None or not guessed:
            return None
        return f"{self.folder} held {held['attack']} on {held['capture']} with other options or files; it is replaced"


def _fingerprint(config: dict[str, Any]) -> str:
    """Return a number that is the same for equal configs and equal contents of their captures."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for path in (Path(path) for paths in config["captures"].values() for path in paths):
        if path.is_file():  # a server's records are a folder
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _option(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
