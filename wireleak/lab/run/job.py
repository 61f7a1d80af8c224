"""One attack on one target in one cell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wireleak.common.targets.registry import target_of
from wireleak.common.targets.target import Target
from wireleak.lab.run.attack_folder import AttackFolder
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.results import Row
from wireleak.lab.run.truth import CellTruth
from wireleak.lab.study.tables import AttackUse, Device


@dataclass(frozen=True)
class AttackJob:
    """One attack on one target in one cell.

    Parameters
    ----------
    cell : Cell
    use : AttackUse
    target : str
    folder : Path, optional
        Folder for its guesses, if they are not kept in the cell.
    device : Device, optional
        The emulated device whose capture is attacked; by default the host's own.
    """

    cell: Cell
    use: AttackUse
    target: str
    folder: Path | None = None
    device: Device | None = None

    @property
    def name(self) -> str:
        """Its name in messages and results, e.g. "wide-seed0-inversion-input"."""
        return f"{self.cell.name}-{self._shown}-{self.target}"

    @property
    def variant(self) -> str:
        """The variant's name in results; an emulated device's results have a name of their own."""
        variant = self.cell.variant.name
        return variant if self.device is None else shown_variant(variant, self.device)

    @property
    def _shown(self) -> str:
        return self.use.shown if self.device is None else f"{self.use.shown}@{self.device.name}"

    @property
    def vantage(self) -> str:
        """The attacker's vantage."""
        return self.use.vantage or self.cell.study.threat.vantage

    @property
    def sought(self) -> Target[Any]:
        """The target."""
        return target_of(self.target)

    def row(self, **figures: Any) -> Row:
        """Return a row of the results of this attack; `figures` are the other fields of `Row`."""
        variant = self.cell.variant
        return Row(
            study=self.cell.study.name,
            variant=self.variant,
            seed=self.cell.seed,
            link=variant.seen_as,
            vantage=self.vantage,
            attack=self.use.shown,
            **figures,
        )

    def truth(self, *, federated: bool) -> CellTruth:
        """Return the ground truth of its target; `federated` says whether it reads a federated training."""
        return CellTruth(self.cell, self.vantage, self.sought, federated, self.use.rounds)

    @property
    def out(self) -> Path:
        """Folder of its guesses."""
        return self.folder or self.cell.attack(self._shown, self.target)

    @property
    def log(self) -> Path:
        """Log of its process."""
        return self.cell.log(f"attack-{self._shown}-{self.target}")

    @property
    def guesses(self) -> Path:
        """File of its guesses; it exists once the attack has finished."""
        return AttackFolder(self.out).guesses


def attack_jobs(cell: Cell) -> list[AttackJob]:
    """Return the attacks that the study declares for a cell."""
    uses = cell.study.attacks_on(cell.variant)
    on_devices = [
        AttackJob(cell, use, target, device=device)
        for device in cell.devices
        for use in uses
        if device.attacks is None or use.shown in device.attacks
        for target in use.targets
    ]
    return [AttackJob(cell, use, target) for use in uses for target in use.targets] + on_devices


def shown_variant(variant: str, device: Device) -> str:
    """Name a variant in the results of an emulated device that serves in it."""
    return f"{variant}-{device.name}"
