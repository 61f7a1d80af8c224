"""One attack on one target in one cell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wireleak.common.targets.registry import target_of
from wireleak.common.targets.target import Target
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.layout import AttackFolder
from wireleak.lab.run.truth import CellTruth
from wireleak.lab.study.tables import AttackUse


@dataclass(frozen=True)
class AttackJob:
    """One attack on one target in one cell; `folder` is where its guesses go, if not to its place in the cell."""

    cell: Cell
    use: AttackUse
    target: str
    folder: Path | None = None

    @property
    def name(self) -> str:
        """How messages and results name it, e.g. "wide-seed0-inversion-input"."""
        return f"{self.cell.name}-{self.use.shown}-{self.target}"

    @property
    def vantage(self) -> str:
        """Where the attacker sits."""
        return self.use.vantage or self.cell.study.threat.vantage

    @property
    def sought(self) -> Target[Any]:
        """The target itself."""
        return target_of(self.target)

    def truth(self, *, federated: bool) -> CellTruth:
        """The ground truth behind it; `federated` where it reads a federated training."""
        return CellTruth(self.cell, self.vantage, self.sought, federated)

    @property
    def out(self) -> Path:
        """Folder of its guesses."""
        return self.folder or self.cell.attack(self.use.shown, self.target)

    @property
    def guesses(self) -> Path:
        """Its guesses; there once it has finished."""
        return AttackFolder(self.out).guesses


def attack_jobs(cell: Cell) -> list[AttackJob]:
    """What a cell's study declares for it."""
    return [AttackJob(cell, use, target) for use in cell.study.attacks_on(cell.variant) for target in use.targets]
