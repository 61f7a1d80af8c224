"""Every path in the folder of one attack on one target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wireleak.lab.run.layout import config_in


@dataclass(frozen=True)
class AttackFolder:
    """The folder of one attack on one target."""

    path: Path

    @property
    def config(self) -> Path:
        """Config with which the adversary starts."""
        return config_in(self.path)

    @property
    def guesses(self) -> Path:
        """The guesses; the file exists once the attack has finished."""
        return self.path / "guesses.npz"

    @property
    def meta(self) -> Path:
        """The attack's own report."""
        return self.path / "meta.json"

    @property
    def not_enforced(self) -> Path:
        """List of what the kernel that ran the attack could not keep it from; no file where it enforces all."""
        return self.path / "not-enforced.json"
