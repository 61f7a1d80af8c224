"""What a client does to its update before it leaves: Flower's own mods, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flwr.app import Context, Message
from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod
from pydantic import Field, PositiveFloat

from wireleak.common.config import ConfigError, Plugin, Strict, options_of

Next = Callable[[Message, Context], Message]
Mod = Callable[[Message, Context, Next], Message]


class NoOptions(Strict):
    """Of a mod without settings."""


class LocalDpOptions(Strict):
    """Settings of local differential privacy: the update is clipped, and gets Gaussian noise before it is sent."""

    clipping_norm: PositiveFloat = Field(description="Longest update, over all layers.")
    sensitivity: PositiveFloat = Field(description="How far two updates can lie apart: 2 clipping norms.")
    epsilon: PositiveFloat = Field(description="Of each round; Flower's bound holds up to 1 alone.")
    delta: float = Field(default=1e-5, gt=0, lt=1)


_MODS: dict[str, tuple[type[Strict], Callable[[Any], Mod]]] = {
    "fixed-clipping": (NoOptions, lambda settings: fixedclipping_mod),
    "local-dp": (LocalDpOptions, lambda settings: LocalDpMod(**settings.model_dump())),
}


def with_mods(mods: Sequence[Plugin], train: Next) -> Next:
    """Wrap a handler of training messages; the first mod is the outermost.

    Raises
    ------
    ConfigError
        There is no mod of that name, or not with such options.
    """
    for mod in reversed(mods):
        train = _wrapped(make(mod), train)
    return train


def _wrapped(mod: Mod, inner: Next) -> Next:
    return lambda message, context: mod(message, context, inner)


def make(config: Plugin) -> Mod:
    """Make one mod; errors as for `with_mods`."""
    if config.name not in _MODS:
        raise ConfigError(f"mods: no mod called {config.name!r}; choose one of {', '.join(_MODS)}")
    kind, make = _MODS[config.name]
    return make(options_of(kind, config.options, f"mods.{config.name}"))
