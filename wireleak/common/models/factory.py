"""A user's own network by name: "package.module:factory", or "path/to/file.py:factory"."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import symtable
import sys
import sysconfig
import threading
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from wireleak.common.files import import_root

if TYPE_CHECKING:
    from torch import nn

    from wireleak.common.models.cutting import Cuts

_CLASSES = ("classes", "num_classes", "n_classes")
_CHANNELS = ("channels", "in_channels", "in_chans")
# Code that a traceback passes through and that nobody looks for.
_NOT_THEIRS = (sysconfig.get_path("stdlib"), "<frozen")
_GRANTED = "; a process of a run reads code and what it is granted: give weights as --weights or as model.weights"
# Tracing changes torch for the whole process while it lasts, so each network is traced once, and then rebuilt.
_FOUND: dict[tuple[str, tuple[int, ...], int], Cuts] = {}
_TRACING = threading.Lock()


class FactoryError(ValueError):
    """A user's network cannot be built: one line that says what is wrong with it."""


def is_factory(name: str) -> bool:
    """Whether a network's name names a factory instead of a registered network."""
    return ":" in name


def resolve(name: str, folder: Path | None = None) -> str:
    """The same factory under a name that means the same in every process, wherever that was started.

    Parameters
    ----------
    name : str
        "module:factory", "file.py:factory", or a registered network's.
    folder : Path, optional
        Where files and modules that are not installed are looked for; by default the current folder.

    Returns
    -------
    str
        As given for a registered network and for a module that any process of this environment can import; else
        "/absolute/file.py:factory".

    Raises
    ------
    FactoryError
        There is no such file or module, or a file has no such factory.
    """
    if not is_factory(name):
        return name
    where, _, factory = name.rpartition(":")
    folder = (folder or Path.cwd()).absolute()
    if where.endswith(".py"):
        path = folder / Path(where).expanduser()
        if not path.is_file():
            raise FactoryError(f"model: no file {path}; give FILE.py:FACTORY or MODULE:FACTORY")
        _check_defined(path, factory)
        return f"{path.resolve()}:{factory}"
    here = _source(folder, where)
    if here is not None:
        return f"{here.resolve()}:{factory}"
    try:
        found = importlib.util.find_spec(where)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise FactoryError(f"model: no module {where!r} in {folder} or installed; give FILE.py:FACTORY or install it")
    return name


def build_blocks(name: str, input_shape: tuple[int, ...], classes: int) -> tuple[nn.Module, nn.Sequential]:
    """Call a factory and cut what it returns into blocks.

    The factory is given what its signature asks for by name: `classes` (or num_classes, n_classes; a factory with
    `**options` gets num_classes), `input_shape`, `channels` (or in_channels, in_chans), `length` (of the last axis).

    Parameters
    ----------
    name : str
        "module:factory" or "file.py:factory".
    input_shape : tuple of int
        One example's shape, without the batch.
    classes : int
        Classes of the main task.

    Returns
    -------
    model : nn.Module
        The network that the factory returned.
    blocks : nn.Sequential
        One block between any two neighbouring cuts, sharing the network's parameters. Together they compute what the
        network computes, bit for bit.

    Raises
    ------
    FactoryError
        No such file, module or factory; it fails, or returns no network that maps (n, *input_shape) to (n, classes).
    wireleak.common.models.cutting.CutError
        The network cannot be cut.
    """
    from wireleak.common.models.cutting import find_cuts

    model = _call(name, _find(name), input_shape, classes)
    key = (name, input_shape, classes)
    with _TRACING:
        if key not in _FOUND:
            _FOUND[key] = find_cuts(model, input_shape, classes, name)
    return model, _FOUND[key].apply(model)


def _find(name: str) -> Callable[..., Any]:
    where, _, factory = resolve(name).rpartition(":")
    try:
        module = _load(Path(where)) if where.endswith(".py") else importlib.import_module(where)
    except Exception as error:  # somebody else's code: whatever it raises is one clear line of ours
        raise FactoryError(f"model: {where} cannot be imported: {_say(error)}") from error
    found = getattr(module, factory, None)
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise _no_factory(where, factory, known)
    return found  # type: ignore[no-any-return]


def _no_factory(where: str, factory: str, known: list[str]) -> FactoryError:
    near = get_close_matches(factory, known, n=1)
    hint = f"did you mean {near[0]!r}? Choose" if near else "choose"
    listed = ", ".join(known[:12]) or "the file defines none"
    return FactoryError(
        f"model: {where} has no factory {factory!r}; {hint} a function that returns the network: {listed}"
    )


def _check_defined(path: Path, factory: str) -> None:
    """Refuse a name that a file's text does not bind, without the seconds that the file's imports take."""
    try:
        text = path.read_text()
        table = symtable.symtable(text, str(path), "exec")
    except (OSError, ValueError, SyntaxError) as error:
        raise FactoryError(f"model: {path} cannot be imported: {type(error).__name__}: {error}") from error
    bound = [symbol for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()]
    # Such files may get names while they run; then the import decides.
    if "import *" in text or "globals()" in text or any(symbol.get_name() == "__getattr__" for symbol in bound):
        return
    if factory not in [symbol.get_name() for symbol in bound]:
        own = [symbol.get_name() for symbol in bound if symbol.is_namespace()]
        raise _no_factory(str(path), factory, [name for name in own if not name.startswith("_")])


def _call(name: str, factory: Callable[..., Any], input_shape: tuple[int, ...], classes: int) -> nn.Module:
    from torch import nn

    try:
        wanted = inspect.signature(factory).parameters
        given: dict[str, Any] = {key: classes for key in _CLASSES if key in wanted}
        given |= {key: input_shape[0] for key in _CHANNELS if key in wanted}
        others = {"input_shape": input_shape, "length": input_shape[-1]}
        given |= {key: value for key, value in others.items() if key in wanted}
        if not set(given) & set(_CLASSES) and any(one.kind is one.VAR_KEYWORD for one in wanted.values()):
            given["num_classes"] = classes
        model = factory(**given)
    except Exception as error:  # somebody else's code
        raise FactoryError(f"model: the factory {name} failed: {_say(error)}") from error
    if not isinstance(model, nn.Module):
        raise FactoryError(f"model: {name} returned {type(model).__name__}; a factory returns a torch.nn.Module")
    return model


def _source(folder: Path, module: str) -> Path | None:
    """The file of a module under `folder`, if it is there."""
    base = folder.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def _load(path: Path) -> ModuleType:
    """Import a file: as part of its package where it is in one, so that relative imports work."""
    root = import_root(path)
    in_package = root != path.parent
    if str(root) not in sys.path:
        sys.path.append(str(root))
    if in_package:
        place = path.parent if path.stem == "__init__" else path.with_suffix("")
        return importlib.import_module(".".join(place.relative_to(root).parts))
    # A name that no other module has: the user's file may well be called model.py, and another run's too.
    name = f"wireleak_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _say(error: BaseException) -> str:
    """An exception in one line, with where in the user's code it was raised."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file != __file__ and not file.startswith(_NOT_THEIRS) and "/torch/" not in file:
            place = f" ({Path(file).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    hint = _GRANTED if isinstance(error, PermissionError | FileNotFoundError) else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}{hint}"
