"""One cell of a study: a variant with one seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wireleak.common.plan import TrainingPlan
from wireleak.lab.run.layout import CellPaths, cell_name
from wireleak.lab.study.schema import Study
from wireleak.lab.study.tables import Variant

DEVICES = ("attacker", "victim")
# Served before training: the same inputs through an untrained encoder, the control of every attack.
UNTRAINED = "untrained-"


@dataclass(frozen=True)
class Cell(CellPaths):
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
        return cell_name(self.variant.name, self.seed)

    @property
    def folder(self) -> Path:
        """The cell's folder."""
        return self.run / self.name

    @property
    def mode(self) -> str:
        """How it trains: "split" or "federated"."""
        return self.plan.mode

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
    def plan(self) -> TrainingPlan:
        """How it is trained."""
        return self.study.plan_of(self.variant)

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
        hidden = self.variant.encrypted or self.plan.secure
        return self.mode == "federated" and hidden and "participant" in self.vantages

    def model(self) -> dict[str, Any]:
        """The "model" part of the parties' configs."""
        return {
            "name": self.variant.model or self.study.model.name,
            "input_shape": list(self.input_shape),
            "classes": self.classes,
            "cut": self.variant.cut,
            "seed": self.seed,
        }
