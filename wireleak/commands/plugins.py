"""The command that lists plug-ins of every kind, with their sources."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from wireleak.commands.base import app, console, fail

# The owner of each kind: a party, asked as a process because the lab never imports it, or "module:REGISTRY".
_OWNERS = {
    "attacks": "adversary",
    "transforms": "client",
    "targets": "wireleak.common.targets.registry:TARGETS",
    "measures": "wireleak.common.measures.scores.measure:MEASURES",
    "datasets": "wireleak.lab.data.registry:SOURCES",
    "networks": "wireleak.common.models.networks:NETWORKS",
    "participants": "adversary",
    "initial_models": "adversary",
    "strategies": "server",
    "mods": "client",
}


@app.command(epilog="Example: wireleak plugins attacks")
def plugins(
    kind: Annotated[str, typer.Argument(help=f"kind to list (default: all): {', '.join(_OWNERS)}")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List plug-ins of every kind (attacks, transforms, measures, ...) with their sources."""
    from wireleak.common.registry import unknown

    kind = kind.replace("-", "_")
    if kind and kind not in _OWNERS:
        fail(f"KIND: {unknown('kind of plug-in', kind, _OWNERS)}")
    from wireleak.lab.launch.watch import working_on

    with working_on("asking each party for its plug-ins"):
        listed = _listed(kind)
    if as_json:
        typer.echo(json.dumps(listed, indent=1))
        return
    for name, rows in listed.items():
        console.print(_table(name, rows))


def _listed(kind: str) -> dict[str, list[dict[str, Any]]]:
    """List plug-ins by kind, from the lab's registries and from each party's process."""
    from wireleak.common.registry import listing

    wanted = {name: owner for name, owner in _OWNERS.items() if kind in ("", name)}
    parties = {owner for owner in wanted.values() if ":" not in owner}
    asked = {party: _ask(party, "plugins", *filter(None, [kind])) for party in sorted(parties)}
    ours = listing({name: owner for name, owner in wanted.items() if ":" in owner})
    by_kind = {name: [vars(plugin) for plugin in plugins] for name, plugins in ours.items()}
    for party, process in asked.items():
        answer, error = process.communicate()
        if process.returncode:
            fail(f"{party} plugins: {error.strip()[-300:]}")
        by_kind |= json.loads(answer)
    return {name: by_kind[name] for name in wanted}


def _ask(party: str, *argv: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", party, *argv]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _table(kind: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=f"{kind} (entry points wireleak.{kind})", box=None, title_justify="left", title_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("summary")
    table.add_column("source", overflow="fold")
    for row in rows:
        error = row["error"]
        text = Text(f"cannot be loaded: {error}", "red") if error else Text(row["summary"])
        table.add_row(Text(row["name"]), text, Text(row["source"]))
    return table
