"""Whether a study resolves a small leak of an attribute, in sentences for its page and its report."""

from __future__ import annotations

from collections.abc import Iterable

from wireleak.common.measures.statistics.power import POWER
from wireleak.common.words import counted
from wireleak.lab.power.design import Design
from wireleak.lab.power.simulation import shown

EFFECT = 0.6


def statements(designs: Iterable[Design], effect: float = EFFECT) -> list[str]:
    """Return which targets' leaks of this AUC a study shows with probability 0.8, and which not; nothing without AUCs.

    Parameters
    ----------
    designs : iterable of Design
    effect : float
        AUC.
    """
    told: list[str] = []
    resolved: list[str] = []
    missed: list[str] = []
    for one in designs:
        if one.measure != "auc":
            continue
        names = ", ".join(one.targets)
        if one.known >= effect:
            told.append(f"The task label tells {names} with AUC {one.known:.2f}, which is no leak.")
            continue
        probability = shown(one, effect)
        size = f"{counted(one.seeds, 'seed')} of {counted(one.persons, 'person', 'people')}" if one.persons else ""
        size = size or f"{counted(one.seeds, 'seed')} of {one.victims:,} guesses"
        found = f"{names} ({probability * 100:.0f} %: {size})"
        (resolved if probability >= POWER else missed).append(found)
    shows = f"A leak of AUC {effect:g} is shown with probability {POWER:g} or more, of"
    said = [f"{shows} {'; '.join(resolved)}."] * bool(resolved)
    said += [f"This study does not resolve a leak of AUC {effect:g} of {'; '.join(missed)}."] * bool(missed)
    return said + told
