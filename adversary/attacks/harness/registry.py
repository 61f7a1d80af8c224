"""Attacks by name: ours, and those that installed packages add through the entry point group "wireleak.attacks"."""

from __future__ import annotations

from adversary.attacks.harness.attack import Attack
from wireleak.common.registry import Registry


def register(attack: type[Attack]) -> type[Attack]:
    """Register the class `attack` under its name, as a class decorator.

    Raises
    ------
    ValueError
        It is not an attack, or another attack has the name.
    """
    if not issubclass(attack, Attack):
        raise ValueError(
            f"attack: {attack.__qualname__} is not a subclass of {Attack.__module__}.Attack; use one of its bases"
        )
    ATTACKS.add(attack.name, attack, attack)
    return attack


ATTACKS: Registry[type[Attack]] = Registry(
    "attack",
    "wireleak.attacks",
    "adversary.attacks",
    adopt=register,
    needs=("target", "options", "threat"),
    skip={"adversary.attacks.harness"},
)
