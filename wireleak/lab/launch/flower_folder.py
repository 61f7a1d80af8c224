"""Flower's own files in a cell's folder: homes, pipes, logs, and the events of the runner."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wireleak.lab.launch.certificates import Identity

# The ServerApp's name; the apps of nodes have "-app" behind the node's.
SERVERAPP, SUPERLINK = "serverapp", "superlink"


@dataclass(frozen=True)
class FlowerFolder:
    """The folders `logs` and `flower` of a cell.

    Parameters
    ----------
    path : Path
        The cell's folder.
    """

    path: Path

    @property
    def events(self) -> Path:
        """JSON lines, one for each app process that has ended; see `wireleak.lab.launch.runner`."""
        return self.path / "flower" / "events.jsonl"

    @property
    def runner(self) -> Path:
        """Config of the runner."""
        return self.path / "flower" / "runner.json"

    @property
    def app(self) -> Path:
        """Wireleak's own Flower app, for `flwr run`."""
        return self.path / "flower" / "app"

    @property
    def wake(self) -> Path:
        """Pipe by which nodes call the runner."""
        return self.path / "flower" / "wake"

    @property
    def logs(self) -> Path:
        """Folder of the logs."""
        return self.path / "logs"

    def log(self, name: str) -> Path:
        """Return the log of a process."""
        return self.logs / f"{name}.log"

    def bell(self, name: str) -> Path:
        """Return the pipe that wakes a node or the ServerApp."""
        return self.path / "flower" / f"{name}.bell"

    def home(self, name: str) -> Path:
        """Return the FLWR_HOME of a process, which is made."""
        home = self.path / "flower" / name
        home.mkdir(parents=True, exist_ok=True)
        return home

    def write_connection(self, address: str, tls: Identity | None) -> None:
        """Tell Flower's command line where the SuperLink is."""
        trust = f'root-certificates = "{tls.ca}"' if tls is not None else "insecure = true"
        text = f'[superlink]\ndefault = "lab"\n\n[superlink.lab]\naddress = "{address}"\n{trust}\n'
        (self.home("control") / "config.toml").write_text(text)
