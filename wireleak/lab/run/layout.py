"""The layout of a run's folder: this module spells every path in it but those of an attack's folder.

The exception is Flower's own files under `flower/`: `wireleak.lab.launch.flower_folder` spells them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """A run's folder."""

    path: Path

    @property
    def study(self) -> Path:
        """The study as the user gave it."""
        return self.path / "study.toml"

    @property
    def plan(self) -> Path:
        """The resolved study, and the number of examples of each party."""
        return self.path / "plan.json"

    @property
    def secret(self) -> Path:
        """The secret from which every party's seed derives; no party may read it."""
        return self.path / "sealed" / "secret"

    @property
    def seconds(self) -> Path:
        """Wall-clock time of the run, of all its parts if it was interrupted."""
        return self.path / "seconds.json"

    @property
    def processes(self) -> Path:
        """CPU seconds and peak memory of every process."""
        return self.path / "processes.json"

    @property
    def results(self) -> Path:
        """All results."""
        return self.path / "results.json"

    @property
    def table(self) -> Path:
        """The scores as a table."""
        return self.path / "results.csv"

    @property
    def pictures(self) -> Path:
        """Inputs of the first victims, and the guesses of each."""
        return self.path / "pictures.npz"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    @property
    def finished(self) -> Path:
        """Hash of everything that the results hold; it exists once a run has ended with all of its attacks."""
        return self.path / "finished.json"

    @property
    def audit(self) -> Path:
        """Figures of an audit."""
        return self.path / "audit.json"

    @property
    def audit_page(self) -> Path:
        """Page of an audit."""
        return self.path / "audit.html"

    @property
    def verdict(self) -> Path:
        """Verdict of a comparison of defences."""
        return self.path / "verdict.json"

    def cell(self, variant: str, seed: int) -> CellFolder:
        """Return the folder of a variant with one seed."""
        return CellFolder(self.path / cell_name(variant, seed))

    def captured(self) -> list[CellFolder]:
        """List the cells whose captures are complete, by name."""
        return [CellFolder(done.parent) for done in sorted(self.path.glob("*/captured.json"))]


def cell_name(variant: str, seed: int) -> str:
    """Name the folder of a variant with one seed, e.g. "wide-seed0"."""
    return f"{variant}-seed{seed}"


def link_of(capture: Path) -> str:
    """Return the link's name from the path of its capture."""
    return capture.name.partition(".pcap")[0]


def compressed(capture: Path) -> Path:
    """Return the path of a capture's compressed form."""
    return capture if capture.suffix == ".gz" else capture.with_name(f"{capture.name}.gz")


def existing(capture: Path) -> Path:
    """Return the capture, or its compressed form where only that exists."""
    return compressed(capture) if not capture.is_file() and compressed(capture).is_file() else capture


def config_in(folder: Path) -> Path:
    """Return the config of the party that owns this folder."""
    return folder / "config.json"


class CellPaths:
    """Every path in a cell's folder."""

    @property
    def folder(self) -> Path:
        """The cell's folder."""
        raise NotImplementedError

    @property
    def done(self) -> Path:
        """Marks that every capture of the cell is complete."""
        return self.folder / "captured.json"

    def log(self, process: str) -> Path:
        """Return the log of a process."""
        return self.folder / "logs" / f"{process}.log"

    @property
    def certificates(self) -> Path:
        """Keys and certificates, where links are encrypted."""
        return self.folder / "certificates"

    # Configs and ready files of processes.

    def config(self, party: str) -> Path:
        """Return the config of "server", "tap", a client or a device."""
        return config_in(self.folder / party)

    def ready(self, party: str) -> Path:
        """Return the file into which "server" or "tap" writes its addresses."""
        return self.folder / party / "ready.json"

    def train(self, client: str) -> Path:
        """Return the file of a client's training data."""
        return self.folder / client / "train.npz"

    def evaluation(self, client: str) -> Path:
        """Return the file of a client's evaluation data."""
        return self.folder / client / "evaluation.npz"

    def answers(self, client: str) -> Path:
        """Return the file that says which of its evaluation examples a client named rightly."""
        return self.folder / client / "answers.npz"

    def keep(self, client: str) -> Path:
        """Return the folder of the weights that a client's transforms train, besides the encoder."""
        return self.folder / client / "kept"

    def trained_labels(self, client: str) -> Path:
        """Return the file to which a client appends the labels of each batch that it sends in split training."""
        return self.folder / client / "labels.jsonl"

    # The server.

    @property
    def checkpoints(self) -> Path:
        """The server's checkpoints."""
        return self.folder / "server" / "checkpoints"

    def checkpoint(self, part: str, number: int) -> Path:
        """Return the file of the weights of "encoder" or "head" after a round."""
        return self.checkpoints / f"{part}-{number}.safetensors"

    def rounds(self, part: str) -> list[int]:
        """List the rounds with a checkpoint of "encoder" or "head", in order."""
        matches = (re.fullmatch(rf"{part}-(\d+)", path.stem) for path in self.checkpoints.glob(f"{part}-*.safetensors"))
        return sorted(int(match[1]) for match in matches if match)

    @property
    def history(self) -> Path:
        """Losses and metrics of each round."""
        return self.folder / "server" / "history.json"

    @property
    def nodes(self) -> Path:
        """Clients by the ids of their Flower nodes."""
        return self.folder / "server" / "nodes.json"

    @property
    def simulation(self) -> Path:
        """Config of a simulation."""
        return self.folder / "server" / "simulation.json"

    @property
    def usage(self) -> Path:
        """Seconds and memory of a simulation."""
        return self.folder / "server" / "usage.json"

    def received(self, client: str) -> Path:
        """Return the folder of one client's updates that a curious server kept."""
        return self.folder / "server" / "received" / client

    # Devices that serve; `prefix` is empty, or `UNTRAINED` for files of serving before training.

    def device(self, name: str) -> Path:
        """Return the folder of a serving device."""
        return self.folder / f"device-{name}"

    def inputs(self, device: str) -> Path:
        """Return the file of inputs that a device sends through its encoder."""
        return self.device(device) / "inputs.npz"

    def encoder(self, device: str, prefix: str = "") -> Path:
        """Return the file of a device's encoder."""
        return self.device(device) / f"{prefix}encoder.safetensors"

    def device_config(self, device: str, prefix: str = "") -> Path:
        """Return a device's config."""
        return self.device(device) / f"{prefix}config.json"

    @property
    def exported(self) -> Path:
        """Folder of the exported encoder, for devices without torch."""
        return self.folder / "encoder"

    def device_export(self, device: str) -> Path:
        """Return the folder of the encoder that was exported for an emulated device."""
        return self.device(device) / "encoder"

    def device_use(self, device: str) -> Path:
        """Return the figures of an emulated device that served."""
        return self.device(device) / "use.json"

    def device_node(self, device: str) -> Path:
        """Return the settings of the SuperNode on an emulated device."""
        return self.device(device) / "node.json"

    def predictions(self, device: str, prefix: str = "") -> Path:
        """Return the file of predictions that a device received."""
        return self.device(device) / f"{prefix}predictions.npz"

    # The tap.

    def capture(self, link: str) -> Path:
        """Return the capture of a link; the compressed one where the recorded one is gone."""
        return existing(self.folder / "tap" / f"{link}.pcap")

    def captures(self, links: str = "*") -> list[Path]:
        """List the captures of links whose name fits a pattern."""
        folder = self.folder / "tap"
        return sorted([*folder.glob(f"{links}.pcap"), *folder.glob(f"{links}.pcap.gz")])

    @property
    def kept_record(self) -> Path:
        """Captures that were compressed or dropped after the attacks."""
        return self.folder / "tap" / "kept.json"

    # The adversary.

    @property
    def inspected(self) -> Path:
        """Contents of each capture, as the adversary reads it."""
        return self.folder / "adversary" / "inspect.json"

    def granted(self, name: str) -> Path:
        """Return a file that attackers were granted."""
        return self.folder / "adversary" / "granted" / name

    @property
    def surrogate(self) -> Path:
        """The attacker's own data."""
        return self.granted("surrogate.npz")

    @property
    def candidates(self) -> Path:
        """Inputs of the victims, among which an attack must find each one."""
        return self.granted("candidates.npz")

    @property
    def records(self) -> Path:
        """Records whose membership in the training data the attacker guesses."""
        return self.granted("records.npz")

    def weights(self, part: str) -> Path:
        """Return the file of granted weights of "encoder" or "head"."""
        return self.granted(f"{part}.safetensors")

    def all_granted(self) -> list[Path]:
        """List the arrays that attackers were granted."""
        return sorted(self.surrogate.parent.glob("*.npz"))

    @property
    def hijack(self) -> Path:
        """Folder of the adversary's server, where it replaces the head."""
        return self.folder / "adversary" / "hijack"

    @property
    def participant(self) -> Path:
        """Folder of a malicious participant."""
        return self.folder / "adversary" / "participant"

    @property
    def secret(self) -> Path:
        """Data that a malicious participant hides or plants."""
        return self.participant / "secret.npz"

    @property
    def kept(self) -> Path:
        """Messages that a curious client 0 kept."""
        return self.participant / "kept"

    @property
    def initial(self) -> Path:
        """A malicious server's first model."""
        return self.folder / "adversary" / "initial" / "model.safetensors"

    def attack(self, attack: str, target: str) -> Path:
        """Return the folder of an attack's guesses."""
        return self.folder / "adversary" / f"{attack}-{target}"

    # Ground truth, for `wireleak.lab.run.truth` only.

    def sealed(self, name: str) -> Path:
        """Return a sealed file."""
        return self.folder / "sealed" / name

    def tensors(self, device: str) -> Path:
        """Return the file of a device's activations that were computed without a wire."""
        return self.folder / "in-process" / f"tensors-{device}.npy"

    def intermediate(self) -> list[Path]:
        """List files that only the attacks of the cell need, and that a later attack writes again."""
        return sorted(self.folder.glob("in-process/tensors-*.npy"))

    @property
    def ledger(self) -> Path:
        """Inputs, labels, attributes and groups of the victims."""
        return self.sealed("ledger.npz")

    def scores(self, name: str) -> Path:
        """Return the file of scores that are kept for a resumed run: those of an attack, or "bounds"."""
        return self.sealed(f"scores/{name}.npz")

    def trained_on(self, client: str) -> Path:
        """Return the file of examples on which a client trained, with attributes and rounds."""
        return self.sealed(f"{client}.npz")

    @property
    def layers(self) -> Path:
        """Figures of each layer."""
        return self.folder / "layers.json"

    @property
    def layers_page(self) -> Path:
        """The page on layers."""
        return self.folder / "layers.html"


class CellFolder(CellPaths):
    """A cell's folder, of any study."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def folder(self) -> Path:
        """The cell's folder."""
        return self._folder

    @classmethod
    def holding(cls, capture: Path) -> CellFolder:
        """Return the cell that a capture is in."""
        return cls(capture.resolve().parent.parent)

    @property
    def run(self) -> RunFolder:
        """The run's folder."""
        return RunFolder(self._folder.parent)

    @property
    def variant(self) -> str:
        """The variant's name."""
        return self._folder.name.rpartition("-seed")[0]

    @property
    def seed(self) -> str:
        """The seed, as the folder's name spells it."""
        return self._folder.name.rpartition("-seed")[2]
