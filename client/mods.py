"""The registry of Flower mods, which change a client's update before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from flwr.app import Context, Message
from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod
from pydantic import Field, PositiveFloat

from wireleak.common.config import ConfigError, NoOptions, Plugin, Strict, options_of
from wireleak.common.registry import Registry

Next = Callable[[Message, Context], Message]
Mod = Callable[[Message, Context, Next], Message]


class LocalDpOptions(Strict):
    """Settings of local differential privacy: the update is clipped and gets Gaussian noise before it is sent."""

    clipping_norm: PositiveFloat = Field(description="Largest norm of an update, over all layers.")
    sensitivity: PositiveFloat = Field(description="Largest distance between two updates: 2 clipping norms.")
    epsilon: PositiveFloat = Field(description="Epsilon of each round; Flower's bound holds only up to 1.")
    delta: float = Field(default=1e-5, gt=0, lt=1, description="Delta of each round.")


class ModEntry(NamedTuple):
    """A registered mod: the model of its settings, and the function that makes it from them."""

    options: type[Strict]
    make: Callable[[Any], Mod]


MODS: Registry[ModEntry] = Registry("mod", "wireleak.mods", error=ConfigError, calls=("settings",))
_Make = TypeVar("_Make", bound=Callable[[Any], Mod])


def register(name: str, options: type[Strict] = NoOptions) -> Callable[[_Make], _Make]:
    """Register a function (settings) -> mod under `name`."""

    def add(make: _Make) -> _Make:
        MODS.add(name, ModEntry(options, make), make)
        return make

    return add


@register("fixed-clipping")
def fixed_clipping(settings: NoOptions) -> Mod:
    """Clip the update to the norm that the server's strategy names."""
    return cast(Mod, fixedclipping_mod)


@register("local-dp", LocalDpOptions)
def local_dp(settings: LocalDpOptions) -> Mod:
    """Clip the update and add Gaussian noise to it."""
    return cast(Mod, LocalDpMod(**settings.model_dump()))


def with_mods(mods: Sequence[Plugin], train: Next) -> Next:
    """Wrap a handler of training messages; the first mod is the outermost.

    Raises
    ------
    ConfigError
        The name is unknown, or an option is wrong.
    """
    for mod in reversed(mods):
        train = _wrapped(make(mod), train)
    return train


def _wrapped(mod: Mod, inner: Next) -> Next:
    return lambda message, context: mod(message, context, inner)


def make(config: Plugin) -> Mod:
    """Make one mod; errors as for `with_mods`."""
    entry = MODS.get(config.name, "mods")
    return entry.make(options_of(entry.options, config.options, f"mods.{config.name}"))
