"""Plug-ins by name: ours are discovered in their packages, those of installed packages through entry points."""

from __future__ import annotations

import inspect
import json
import pkgutil
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
OURS = "wireleak"
_OUR_PACKAGES = {"adversary", "client", "server", "wireleak"}


@dataclass(frozen=True)
class Listed:
    """A plug-in as `wireleak plugins` lists it.

    Parameters
    ----------
    name : str
        Registry name; of a plug-in that cannot be loaded, its entry point's.
    summary : str
        First paragraph of its docstring.
    source : str
        "wireleak", or the package that adds it.
    error : str, optional
        Why it cannot be loaded.
    """

    name: str
    summary: str
    source: str
    error: str | None = None


@dataclass(frozen=True)
class _Plugin(Generic[Item]):
    item: Item
    code: Any
    source: str


class Registry(Generic[Item]):
    """All plug-ins of one kind. Nothing is imported before the first question, and for one name only what it needs.

    An entry point is called as its plug-in, and names the class, function or module that registers it. One that cannot
    be loaded is named in one line on stderr and left out.

    Parameters
    ----------
    kind : str
        One plug-in, in messages: "attack".
    group : str
        Group of entry points: "wireleak.attacks".
    *packages : str
        Packages of ours of which every module is imported, and modules.
    error : type of Exception
        Raised for a name that is unknown, taken or cannot be loaded.
    adopt : callable, optional
        The kind's class decorator, for entry points that name a class which does not register itself.
    calls : sequence of str
        Arguments with which functions of this kind are called; one of another package must take so many.
    needs : sequence of str
        Attributes that the class of another package must have.
    skip : container of str
        Packages and modules of ours that hold no plug-in.
    otherwise : str
        Last words after the known names: "or MODULE:FACTORY".
    """

    def __init__(
        self,
        kind: str,
        group: str,
        *packages: str,
        error: type[Exception] = ValueError,
        adopt: Callable[[Any], object] | None = None,
        calls: Sequence[str] | None = None,
        needs: Sequence[str] = (),
        skip: Container[str] = (),
        otherwise: str = "",
    ) -> None:
        self.kind = kind
        self.group = group
        self._packages = packages
        self._error = error
        self._adopt = adopt
        self._calls = calls
        self._needs = needs
        self._skip = skip
        self._otherwise = otherwise
        self._plugins: dict[str, _Plugin[Item]] = {}
        self._broken: dict[str, Listed] = {}
        self._unnamed: list[Listed] = []
        self._loaded = False
        self._loading: str | None = None

    def add(self, name: str, item: Item, code: Any) -> None:
        """Register `item`, which the class or function `code` defines.

        Raises
        ------
        Exception
            Of the registry's type: other code has that name, or it is no text.
        """
        if not isinstance(name, str) or not name:
            raise self._error(f"{self.kind}: {name!r} is not a name; give a text")
        while isinstance(code, partial):
            code = code.func
        other = self._plugins.get(name)
        if other is not None and _place(other.code) != _place(code):
            by = f"by {other.code.__module__} and {code.__module__}"
            raise self._error(f"{self.kind}: {name!r} is registered twice, {by}; rename one")
        package = str(code.__module__).partition(".")[0]
        self._plugins[name] = _Plugin(item, code, self._loading or (OURS if package in _OUR_PACKAGES else package))

    def all(self) -> dict[str, Item]:
        """Return every plug-in that can be loaded, in order of name; name the others, once, on stderr."""
        self._load()
        for one in self._unnamed:
            print(left_out(self.kind, one), file=sys.stderr, flush=True)
        self._unnamed.clear()
        return {name: self._plugins[name].item for name in sorted(self._plugins)}

    def get(self, name: str, field: str | None = None) -> Item:
        """Return the plug-in called `name`.

        Raises
        ------
        Exception
            Of the registry's type: one line that begins with `field`, by default the kind. There is no such plug-in,
            or it cannot be loaded.
        """
        if not self._loaded and name not in self._plugins:
            # Most modules are called as their plug-in, so one question costs one import. Names that two plug-ins claim
            # are found by `all`, with which every run begins.
            for package in self._packages:
                _import_called(package, name.replace("-", "_"), self._skip)
        if name not in self._plugins:
            self._load()
        if name in self._plugins:
            return self._plugins[name].item
        place = field or self.kind
        if broken := self._broken.get(name):
            raise self._error(f"{place}: {self.kind} {name!r} of {broken.source} cannot be loaded: {broken.error}")
        raise self._error(f"{place}: {unknown(self.kind, name, sorted(self._plugins), self._otherwise)}")

    def listed(self) -> list[Listed]:
        """List all plug-ins in order of name, also those that cannot be loaded."""
        self._load()
        self._unnamed.clear()
        good = [Listed(name, summary(plugin.code), plugin.source) for name, plugin in self._plugins.items()]
        return sorted([*good, *self._broken.values()], key=lambda one: (one.name, one.error or ""))

    def _load(self) -> None:
        if self._loaded:
            return
        for package in self._packages:
            _import_all(package, self._skip)
        for point in entry_points(group=self.group):
            source = point.dist.name if point.dist else point.value
            self._loading, before = source, dict(self._plugins)
            try:
                # It may print while it is imported, and stdout may be an answer in JSON.
                with redirect_stdout(sys.stderr):
                    self._load_point(point, before)
            except (Exception, SystemExit) as error:  # other people's code may raise anything, and costs itself only
                self._plugins = before
                reason = " ".join(f"{point.value}: {type(error).__name__}: {error}".split())
                self._broken[point.name] = Listed(point.name, "", source, reason)
                self._unnamed.append(self._broken[point.name])
            finally:
                self._loading = None
        self._loaded = True

    def _load_point(self, point: EntryPoint, before: Mapping[str, object]) -> None:
        loaded = point.load()
        if self._adopt is not None and isinstance(loaded, type):
            self._adopt(loaded)
        if point.name not in self._plugins:
            raise LookupError(f"it registers no {self.kind} called {point.name!r}")
        if self._plugins[point.name].source != self._loading:
            raise LookupError(f"another {self.kind} is called {point.name!r}; rename one")
        for name in self._plugins.keys() - before.keys():
            self._check(self._plugins[name].code)

    def _check(self, code: Any) -> None:
        """Refuse code of another package that could not be used once it is chosen."""
        if missing := [name for name in self._needs if not hasattr(code, name)]:
            raise TypeError(f"{code.__qualname__} has no {missing[0]!r}, which each {self.kind} needs")
        if inspect.isabstract(code):
            raise TypeError(f"{code.__qualname__} does not define {min(code.__abstractmethods__)!r}")
        if inspect.isclass(code):
            for own, base in _overrides(code):
                _check_call(own, _positional(base))
        elif self._calls is not None:
            _check_call(code, self._calls)


def unknown(kind: str, name: str, known: Iterable[str], otherwise: str = "", most: int | None = None) -> str:
    """Explain that nothing is called `name`: suggest the nearest known names, then list all of them.

    Where more than `most` names are known and one is near, only the nearest are named.
    """
    names = list(known)
    near = " or ".join(map(repr, get_close_matches(name.lower(), names)))
    if near and most is not None and len(names) > most:
        return f"no {kind} called {name!r}; did you mean {near}?"
    choice = f"hoose one of {', '.join(names) or 'none'}" + (f", {otherwise}" if otherwise else "")
    hint = f"did you mean {near}? C" if near else "c"
    return f"no {kind} called {name!r}; {hint}{choice}"


def left_out(kind: str, plugin: Listed) -> str:
    """Say in one line which plug-in is left out, and why."""
    return f"{kind} {plugin.name!r} of {plugin.source} is left out, it cannot be loaded: {plugin.error}"


def summary(code: Any) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join((inspect.getdoc(code) or "").partition("\n\n")[0].split())


def listing(places: Mapping[str, str], kind: str = "") -> dict[str, list[Listed]]:
    """List the plug-ins of one kind or of all.

    Parameters
    ----------
    places : mapping of str to str
        Where each kind's registry is: {"attacks": "package.module:ATTACKS"}. Nothing else is imported.
    kind : str
        The one to list; empty for all.

    Raises
    ------
    ValueError
        There is no such kind.
    """
    if kind and kind not in places:
        raise ValueError(f"KIND: {unknown('kind of plug-in', kind, places)}")
    return {one: pkgutil.resolve_name(places[one]).listed() for one in ([kind] if kind else places)}


def print_listing(places: Mapping[str, str], kind: str = "") -> None:
    """Print `listing` as JSON, for the process that asked; a wrong kind ends this one with status 2."""
    try:
        listed = listing(places, kind)
    except ValueError as error:
        sys.exit(f"{error}")
    print(json.dumps({one: [asdict(plugin) for plugin in plugins] for one, plugins in listed.items()}))


def _overrides(code: type) -> Iterator[tuple[Any, Any]]:
    """Yield the methods of a class with those of its bases that they replace."""
    for name, own in vars(code).items():
        base = next((vars(parent)[name] for parent in code.__mro__[1:] if name in vars(parent)), None)
        if inspect.isfunction(own) and inspect.isfunction(base):
            yield own, base


def _positional(code: Any) -> list[str]:
    """Return the names of the arguments that a function takes by their place."""
    parameters = inspect.signature(code).parameters.values()
    return [one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]


def _check_call(code: Any, arguments: Sequence[str]) -> None:
    try:
        inspect.signature(code).bind(*arguments)
    except TypeError as error:
        wanted = ", ".join(arguments)
        raise TypeError(f"{code.__qualname__} cannot be called with ({wanted}): {error}") from None


def _place(code: Any) -> tuple[str, str]:
    return code.__module__, code.__qualname__


def _import_called(name: str, last: str, skip: Container[str]) -> None:
    """Import the modules in a package whose last name is `last`, and the packages on the way to them."""
    for found in pkgutil.iter_modules(getattr(import_module(name), "__path__", ()), f"{name}."):
        if found.name not in skip and found.ispkg:
            _import_called(found.name, last, skip)
        elif found.name not in skip and found.name.rpartition(".")[2] == last:
            import_module(found.name)


def _import_all(name: str, skip: Container[str]) -> None:
    module = import_module(name)
    for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
        if found.name not in skip:
            _import_all(found.name, skip)
