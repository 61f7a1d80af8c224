"""Targets by name: ours, and those that installed packages add through the entry points "wireleak.targets"."""

from __future__ import annotations

from typing import Any

from wireleak.common.registry import Registry
from wireleak.common.targets.target import Target


def register(target: type[Target[Any]]) -> type[Target[Any]]:
    """Register a target's class under its name.

    Raises
    ------
    ValueError
        The name is another target's.
    """
    TARGETS.add(target.name, target, target)
    return target


TARGETS: Registry[type[Target[Any]]] = Registry("target", "wireleak.targets", "wireleak.common.targets", adopt=register)


def target_of(name: str) -> Target[Any]:
    """Return the target of that name; any name that is no target's is a private attribute's."""
    known = TARGETS.all()
    return known.get(name, known["attribute"])(name)
