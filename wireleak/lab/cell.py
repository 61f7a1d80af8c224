"""One cell of a study: a variant with one seed, and where its parties' files are in the run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wireleak.lab.study import Study, Variant

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
        return any(
            self.study.runs_untrained(use, self.variant, self.seed) for use in self.study.attacks_on(self.variant)
        )

    @property
    def clients(self) -> list[str]:
        """Names of the training clients, which are also their folders' names."""
        return [f"client-{index}" for index in range(self.study.data.clients)]

    @property
    def surrogate(self) -> Path:
        """What the attacker is granted."""
        return self.folder / "adversary" / "granted" / "surrogate.npz"

    @property
    def ledger(self) -> Path:
        """Ground truth, for the scorer alone."""
        return self.folder / "sealed" / "ledger.npz"

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
