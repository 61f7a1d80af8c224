"""Threat models: an attacker's position, observations and knowledge."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from adversary.tap.decode.observation import Kind
from wireleak.common.threat import SIZES_AND_TIMES, Knows, Vantage

__all__ = ["SIZES_AND_TIMES", "Knows", "ThreatModel", "Vantage"]

_SIGHTS = frozenset({*(kind.value for kind in Kind), SIZES_AND_TIMES})


@dataclass(frozen=True)
class ThreatModel:
    """Capabilities that an attack needs; with fewer grants it cannot run.

    Parameters
    ----------
    vantage : tuple of Vantage
        The attack works from any one of these.
    sees : tuple of str
        It needs all of these: values of `Kind`, or "sizes-and-times".
    knows : tuple of Knows
        It needs all of these.

    Raises
    ------
    ValueError
        A value is unknown to its field.
    """

    vantage: tuple[Vantage, ...]
    sees: tuple[str, ...]
    knows: tuple[Knows, ...]

    def __post_init__(self) -> None:
        _check("vantage", self.vantage, {value.value for value in Vantage})
        _check("sees", self.sees, _SIGHTS)
        _check("knows", self.knows, {value.value for value in Knows})

    def as_json(self) -> dict[str, list[str]]:
        """Return the three lists as plain strings."""
        return {
            "vantage": [str(value) for value in self.vantage],
            "sees": [str(value) for value in self.sees],
            "knows": [str(value) for value in self.knows],
        }


def _check(field: str, values: tuple[str, ...], known: Iterable[str]) -> None:
    unknown = set(map(str, values)) - set(known)
    if unknown or not values:
        raise ValueError(f"threat.{field}: {sorted(unknown)} is unknown; choose one of {', '.join(sorted(known))}")
