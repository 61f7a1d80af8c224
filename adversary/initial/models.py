"""First global models of a malicious server, by name."""

from __future__ import annotations

import importlib

from adversary.initial.config import InitialConfig

_OURS = ("imprint", "pretrained")


def write(config: InitialConfig) -> None:
    """Make the model that the config names, and write its weights to `out`.

    Raises
    ------
    ValueError
        There is none of that name, or not with such options, model or surrogate.
    """
    if config.name not in _OURS:
        raise ValueError(f"name: no initial model called {config.name!r}; choose one of {', '.join(_OURS)}")
    importlib.import_module(f"adversary.initial.{config.name}").write(config)
