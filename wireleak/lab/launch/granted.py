"""The jail of a party's process: it reads what its config names, and writes its own folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from wireleak.common.files import import_root
from wireleak.lab.launch.jail import Jail, modules_in, package_of, ports_of


def jail_of(
    config: Path,
    content: Any,
    own: Path,
    *,
    also: Iterable[Path] = (),
    connect: Iterable[str] = (),
    listens: bool = False,
) -> Jail:
    """Return the jail of a process with a config.

    Parameters
    ----------
    config : Path
        The config's file.
    content : JSON value
        What it says. Every absolute path in it is a grant, and so is a network's file "FILE.py:factory".
    own : Path
        The process's own folder, which it may write.
    also : iterable of Path
        Further folders that it may write.
    connect : iterable of str
        "host:port" of the servers that it may reach.
    listens : bool
        Whether it serves, on free ports.

    Raises
    ------
    AssertionError
        The config names a sealed file.
    """
    write = (own, *also)
    named = [path for path in _paths(content) if not any(map(path.is_relative_to, write))]
    sealed = [path for path in named if _is_sealed(path, own)]
    assert not sealed, f"{config} names {sealed[0]}, which no party may read"
    ports = ports_of(connect)
    return Jail((config, *named), write, ports, (0,) if listens else (), sockets=bool(ports) or listens)


def _is_sealed(path: Path, own: Path) -> bool:
    """Return whether a path is in the sealed folder of this process's cell or run; a user's may be called so, too."""
    around = own.parents[:3]  # the cell and the run; an attack's folder lies one deeper
    return any(place.name == "sealed" and place.parent in around for place in (path, *path.parents))


def _paths(content: Any) -> Iterator[Path]:
    if isinstance(content, dict):
        module, separator, _ = str(content.get("name")).partition(":")
        if separator and "input_shape" in content and not module.startswith("/"):
            # A network in a package that is installed from its source, which may lie anywhere.
            yield from package_of(module)
        content = list(content.values())
    if isinstance(content, list | tuple):
        for value in content:
            yield from _paths(value)
    elif isinstance(content, str | Path) and str(content).startswith("/"):
        file, separator, _ = str(content).partition(".py:")
        if separator:
            # The user's network may import its neighbours, and those of the package that it is in.
            yield from modules_in(import_root(Path(file)))
        else:
            yield Path(content)
