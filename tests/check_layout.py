"""Print crowded folders, long files, import circles and imports that run back; fail on any.

A file of an attack, a transform, a measure or a target has a lower limit than others: it should read like its paper.

Imports are read from the source, also those inside functions, so no code is run. A *room* is a folder. An import runs
back when a room of a lower floor (`FLOORS`) imports a room of a higher one.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRODUCT = ("wireleak", "client", "server", "adversary")
MOST_FILES = 20
MOST_LINES = 400
MOST_PLUGIN_LINES = 150
# A file here that registers something is a plug-in.
PLUGINS = ("adversary/attacks", "client/transforms", "wireleak/common/measures", "wireleak/common/targets")
# Written by tools, or measured: their number and length are not ours to choose.
GENERATED = ("_pb2", "docs/results", "docs/reference/", "LICENSE")
# Lower floors first: a room imports rooms of its own floor or below. Rooms are matched by their longest prefix.
FLOORS = (
    ("wireleak/common",),
    ("wireleak/lab/study",),
    ("wireleak/lab/data",),
    ("wireleak/lab/run",),
    ("wireleak/lab/launch",),
    ("wireleak/lab/devices",),
    ("wireleak/lab/features", "wireleak/lab/report"),
    ("wireleak/lab/steps",),
    (
        "wireleak/lab/audit",
        "wireleak/lab/cluster",
        "wireleak/lab/layers",
        "wireleak/lab/recorded",
        "wireleak/lab/serve",
    ),
)
Graph = dict[str, set[str]]


def tracked() -> list[Path]:
    """Files that git tracks, relative to the root, where they exist."""
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    return [Path(name) for name in listed if name and (ROOT / name).is_file()]


def crowded(files: Iterable[Path]) -> list[str]:
    """Folders with more files than `MOST_FILES`."""
    count: dict[str, int] = defaultdict(int)
    for file in files:
        if not any(part in file.as_posix() for part in GENERATED):
            count[file.parent.as_posix()] += 1
    return [f"{folder}: {number} files" for folder, number in sorted(count.items()) if number > MOST_FILES]


def long_files(files: Iterable[Path]) -> list[str]:
    """Source files with more lines than `MOST_LINES`, or for plug-ins `MOST_PLUGIN_LINES`."""
    sources = [file for file in files if file.suffix in (".py", ".j2", ".css", ".toml", ".md")]
    found = []
    for file in sources:
        if any(part in file.as_posix() for part in GENERATED):
            continue
        lines = (ROOT / file).read_text().splitlines()
        plugin = file.as_posix().startswith(PLUGINS) and any(line.startswith("@register") for line in lines)
        if len(lines) > (MOST_PLUGIN_LINES if plugin else MOST_LINES):
            found.append(f"{file}: {len(lines)} lines")
    return found


def imports(files: Iterable[Path]) -> Graph:
    """Modules of the product by the modules that they import, as paths without ".py"."""
    modules = {
        file.with_suffix("").as_posix().removesuffix("/__init__"): file
        for file in files
        if file.parts[0] in PRODUCT and file.suffix == ".py"
    }
    graph: Graph = {}
    for module, file in modules.items():
        wanted: set[str] = set()
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                wanted |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        paths = {name.replace(".", "/") for name in wanted}
        graph[module] = {path for path in paths if path in modules and path != module}
    return graph


def _doors(graph: Graph, files: Iterable[Path]) -> Graph:
    """Rename packages' `__init__` to "package/__init__", and drop it where a submodule of the package was imported."""
    packages = {file.parent.as_posix() for file in files if file.name == "__init__.py"}

    def door(module: str) -> str:
        return f"{module}/__init__" if module in packages else module

    found: Graph = {}
    for module, wanted in graph.items():
        through = {one for one in wanted if one in packages and any(other.startswith(f"{one}/") for other in wanted)}
        found[door(module)] = {door(one) for one in wanted - through}
    return found


def rooms(graph: Graph) -> Graph:
    """Folders by the folders that their modules import; a package's `__init__` that imports nothing is no room."""
    found: Graph = defaultdict(set)
    for module, wanted in graph.items():
        room = Path(module).parent.as_posix()
        found[room] |= {Path(one).parent.as_posix() for one in wanted if graph[one] or not one.endswith("__init__")} - {
            room
        }
    return dict(found)


def circles(graph: Graph) -> list[str]:
    """Groups of nodes that reach one another, a line each."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(graph.get(start, ()))
        while waiting:
            if (one := waiting.pop()) not in seen:
                seen.add(one)
                waiting += graph.get(one, ())
        return seen

    reach = {node: reachable(node) for node in graph}
    groups = {tuple(sorted(other for other in reach[node] if node in reach.get(other, ()))) for node in graph}
    return [" <-> ".join(group) for group in sorted(groups) if group]


def running_back(graph: Graph) -> list[str]:
    """Imports from a lower floor to a higher one."""

    def floor(module: str) -> int | None:
        places = [
            (len(prefix), number)
            for number, prefixes in enumerate(FLOORS)
            for prefix in prefixes
            if module == prefix or module.startswith(f"{prefix}/")
        ]
        return max(places)[1] if places else None

    found = []
    for module, wanted in sorted(graph.items()):
        own = floor(module)
        for one in sorted(wanted):
            other = floor(one)
            if own is not None and other is not None and other > own:
                found.append(f"{module} -> {one}")
    return found


def faults() -> dict[str, list[str]]:
    """Everything that breaks the plan, by kind."""
    files = tracked()
    graph = _doors(imports(files), files)
    return {
        f"folders over {MOST_FILES} files": crowded(files),
        f"files over {MOST_LINES} lines, plug-ins over {MOST_PLUGIN_LINES}": long_files(files),
        "circles of files": circles(graph),
        "circles of rooms": circles(rooms(graph)),
        "imports that run back": running_back(graph),
    }


def main() -> int:
    """Print the faults; the exit status is 1 when there is any."""
    found = faults()
    for kind, lines in found.items():
        print(f"{kind}: {len(lines) or 'none'}", *(f"  {line}" for line in lines), sep="\n")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
