"""The `wireleak` command: its groups of commands, in the order of `--help`."""

from importlib import import_module

from wireleak.commands.base import app

for group in ("runs", "archive", "studies", "lists", "schema", "plugins", "traffic", "audits", "export", "pi"):
    import_module(f"wireleak.commands.{group}")

__all__ = ["app"]
