"""The `wireleak` command: its groups of commands, in the order of `--help`."""

from importlib import import_module

from wireleak.commands.base import app
from wireleak.common import program

GROUPS = (
    *("runs", "archive", "studies", "power", "lists", "schema", "plugins", "traffic", "audits", "export", "serve"),
    "pi",
)

for group in GROUPS:
    import_module(f"wireleak.commands.{group}")


def start() -> int:
    """Run the command line and return its exit status."""
    return program.start(app, "wireleak")


__all__ = ["app", "start"]
