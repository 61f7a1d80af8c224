"""One cell of a study: a variant with one seed, and where its parties' files are in the run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wireleak.lab.study.schema import Study
from wireleak.lab.study.tables import System, Variant

DEVICES = ("attacker", "victim")
# Served before training: the same inputs through an untrained encoder, the control of every attack.
UNTRAINED = "untrained-"


@dataclass(frozen=True)
class Cell:
    """A variant with one seed.

    Parameters
    ----------
    study : Study
    variant : Variant
    seed : int
    run : Path
        The run's folder.
    input_shape : tuple of int
        One example's shape.
    classes : int
        Classes of the main task.
    """

    study: Study
    variant: Variant
    seed: int
    run: Path
    input_shape: tuple[int, ...]
    classes: int

    @property
    def name(self) -> str:
        """Folder's name, e.g. "wide-seed0"."""
        return f"{self.variant.name}-seed{self.seed}"

    @property
    def folder(self) -> Path:
        """The cell's folder."""
        return self.run / self.name

    @property
    def mode(self) -> str:
        """How it trains: "split" or "federated"."""
        return self.variant.mode or self.study.system.mode

    @property
    def serves_untrained(self) -> bool:
        """Whether any attack's control wants the same inputs served through an untrained encoder."""
        return self.study.serve.devices and any(
            self.study.runs_untrained(use, self.variant, self.seed) for use in self.study.attacks_on(self.variant)
        )

    @property
    def clients(self) -> list[str]:
        """Names of the training clients, which are also their folders' names."""
        return [f"client-{index}" for index in range(self.study.clients_of(self.variant))]

    @property
    def system(self) -> System:
        """How it is trained."""
        return self.study.system_of(self.variant)

    @property
    def surrogate(self) -> Path:
        """What the attacker is granted."""
        return self.folder / "adversary" / "granted" / "surrogate.npz"

    @property
    def ledger(self) -> Path:
        """Ground truth, for the scorer alone."""
        return self.folder / "sealed" / "ledger.npz"

    def trained_on(self, client: str) -> Path:
        """What a client trained on, with attributes and rounds, for the scorer alone."""
        return self.folder / "sealed" / f"{client}.npz"

    @property
    def checkpoints(self) -> Path:
        """The server's checkpoints."""
        return self.folder / "server" / "checkpoints"

    @property
    def done(self) -> Path:
        """Marks that every capture of the cell is complete."""
        return self.folder / "captured.json"

    def device(self, name: str) -> Path:
        """Folder of a serving device."""
        return self.folder / f"device-{name}"

    def capture(self, link: str) -> Path:
        """Capture of a link."""
        return self.folder / "tap" / f"{link}.pcap"

    def log(self, process: str) -> Path:
        """Log of a process."""
        return self.folder / "logs" / f"{process}.log"

    @property
    def hijack(self) -> Path:
        """Folder of the adversary's server, where it stands in for the head."""
        return self.folder / "adversary" / "hijack"

    @property
    def participant(self) -> Path:
        """Folder of a malicious participant."""
        return self.folder / "adversary" / "participant"

    @property
    def initial(self) -> Path:
        """A malicious server's first model."""
        return self.folder / "adversary" / "initial" / "model.safetensors"

    @property
    def vantages(self) -> set[str]:
        """Where its attackers sit."""
        return {use.vantage or self.study.threat.vantage for use in self.study.attacks_on(self.variant)}

    @property
    def server_records(self) -> bool:
        """Whether the server keeps what it sends to and gets from each client, for attacks from its vantage."""
        return self.mode == "federated" and "server" in self.vantages

    @property
    def participant_records(self) -> bool:
        """Whether client 0 keeps what it gets and sends: where it is curious and its link does not show that."""
        hidden = self.variant.encrypted or self.study.secure(self.variant)
        return self.mode == "federated" and hidden and "participant" in self.vantages

    @property
    def nodes(self) -> Path:
        """Clients by the id of their Flower node."""
        return self.folder / "server" / "nodes.json"

    @property
    def usage(self) -> Path:
        """Seconds and memory of a simulation."""
        return self.folder / "server" / "usage.json"

    @property
    def kept(self) -> Path:
        """What a curious client 0 kept."""
        return self.participant / "kept"

    def received(self, client: str) -> Path:
        """What a curious server kept of one client's updates."""
        return self.folder / "server" / "received" / client

    def attack(self, attack: str, target: str) -> Path:
        """Folder of an attack's guesses."""
        return self.folder / "adversary" / f"{attack}-{target}"

    def model(self) -> dict[str, Any]:
        """The "model" part of the parties' configs."""
        return {
            "name": self.variant.model or self.study.model.name,
            "input_shape": list(self.input_shape),
            "classes": self.classes,
            "cut": self.variant.cut,
            "seed": self.seed,
        }
