"""Data sets by name: wireleak's own, and those of other packages' entry points `wireleak.datasets`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wireleak.common.registry import Registry, unknown
from wireleak.lab.data.dataset import DataError, Dataset


@dataclass(frozen=True)
class Source:
    """A data set: how it is found and read.

    Parameters
    ----------
    name : str
        Registry name.
    read : callable
        (where, **options) -> Dataset; `where` is the path that `locate` returned.
    locate : callable
        Folders to search, best first -> path of the data, or None.
    examples : int or None
        Number of examples, where it is fixed.
    shape : tuple of int
        Shape of one example with default options; empty where the user decides.
    task, attributes, obtain, licence : str, tuple of str, str, str
        Shown by `wireleak data`; `obtain` says how to get the data.
    """

    name: str
    read: Callable[..., Dataset]
    locate: Callable[[list[Path]], Path | None]
    examples: int | None
    shape: tuple[int, ...]
    task: str
    attributes: tuple[str, ...]
    obtain: str
    licence: str


@dataclass(frozen=True)
class Description:
    """One line of `wireleak data`: a source and its path on this machine (None: absent)."""

    name: str
    examples: int | None
    shape: tuple[int, ...]
    task: str
    attributes: tuple[str, ...]
    where: Path | None
    obtain: str
    licence: str


SOURCES: Registry[Source] = Registry(
    "data set", "wireleak.datasets", "wireleak.lab.data.sources", error=DataError, calls=("where",)
)


def register(
    name: str,
    *,
    locate: Callable[[list[Path]], Path | None],
    examples: int | None,
    shape: tuple[int, ...],
    task: str,
    attributes: tuple[str, ...],
    obtain: str,
    licence: str,
) -> Callable[[Callable[..., Dataset]], Callable[..., Dataset]]:
    """Register a reader (where, **options) -> Dataset; the parameters are those of `Source`."""

    def add(read: Callable[..., Dataset]) -> Callable[..., Dataset]:
        source = Source(name, read, locate, examples, shape, task, attributes, obtain, licence)
        SOURCES.add(name, source, read)
        return read

    return add


def names() -> list[str]:
    """Return the names of the registered data sets."""
    return list(SOURCES.all())


def load(name: str, root: Path | None = None, **options: object) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    name : str
        Registry name.
    root : Path, optional
        The only folder to search. By default those of `search_folders`.
    **options
        The data set's own options, such as `size` of Omniglot.

    Raises
    ------
    DataError
        The name or an option is unknown, or the data is absent: one line with the fix.
    """
    source, where = find(name, root, **options)
    return source.read(where, **options)


def find(name: str, root: Path | None = None, **options: object) -> tuple[Source, Path]:
    """Return a data set's source and the path of its data; the parameters and errors are those of `load`."""
    source = SOURCES.get(name, "data")
    known = list(inspect.signature(source.read).parameters)[1:]
    for option in options:
        if option not in known:
            raise DataError(f"{name}: {unknown('option', option, known)}")
    folders = search_folders(root)
    where = source.locate(folders)
    if where is None:
        looked = ", ".join(str(folder) for folder in folders)
        raise DataError(f"{name}: not found in {looked}; {source.obtain}")
    return source, where


def describe(name: str | None = None, root: Path | None = None) -> list[Description]:
    """Describe one or all registered data sets, without reading them."""
    chosen = list(SOURCES.all().values()) if name is None else [SOURCES.get(name, "data")]
    folders = search_folders(root)
    return [_description(source, folders) for source in chosen]


def search_folders(root: Path | None = None) -> list[Path]:
    """List the folders to search, best first: `root` if given, else $WIRELEAK_DATA and ~/.cache/wireleak/data."""
    if root is not None:
        return [Path(root).expanduser()]
    folders = [Path.home() / ".cache" / "wireleak" / "data"]
    if given := os.environ.get("WIRELEAK_DATA"):
        folders.insert(0, Path(given).expanduser())
    return folders


def first_existing(folders: list[Path], *candidates: str) -> Path | None:
    """Return the first of `candidates` (relative paths) in the first of `folders` that holds one of them."""
    for folder in folders:
        for candidate in candidates:
            if (path := folder / candidate).exists():
                return path
    return None


def _description(source: Source, folders: list[Path]) -> Description:
    return Description(
        source.name,
        source.examples,
        source.shape,
        source.task,
        source.attributes,
        source.locate(folders),
        source.obtain,
        source.licence,
    )
