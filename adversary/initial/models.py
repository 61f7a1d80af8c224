"""The registry of first global models of a malicious server."""

from __future__ import annotations

from collections.abc import Callable

from adversary.initial.config import InitialConfig
from wireleak.common.registry import Registry

Writer = Callable[[InitialConfig], None]
INITIAL_MODELS: Registry[Writer] = Registry(
    "initial model", "wireleak.initial_models", "adversary.initial", calls=("config",)
)


def register(name: str) -> Callable[[Writer], Writer]:
    """Register a function that makes a model and writes its weights to the config's `out`."""

    def add(writer: Writer) -> Writer:
        INITIAL_MODELS.add(name, writer, writer)
        return writer

    return add


def write(config: InitialConfig) -> None:
    """Make the initial model that the config names, and write its weights to `out`.

    Raises
    ------
    ValueError
        The name is unknown, or the options, the model or the surrogate examples do not fit it.
    """
    INITIAL_MODELS.get(config.name, "name")(config)
