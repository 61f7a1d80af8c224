"""The paths in a run's folder that only an audit or a comparison of defences uses."""

from __future__ import annotations

from pathlib import Path

from wireleak.lab.run.layout import RunFolder


class AuditFolder(RunFolder):
    """The folder of an audit, or of a comparison of defences."""

    @property
    def request(self) -> Path:
        """The options, and the sizes that were chosen."""
        return self.path / "request.json"

    @property
    def networks(self) -> Path:
        """Folder of the weights that an audit trained."""
        return self.path / "network"
