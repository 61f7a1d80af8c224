"""Options of `audit` and `defend` that a user writes as text: times, sizes, and limits for CI."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wireleak.common.memory import parse_size
from wireleak.common.registry import unknown
from wireleak.lab.study.schema import StudyError

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_LEAST_SECONDS, _LEAST_MEMORY = 30.0, 2**30
# Measures that a limit may name; the higher, the more leaks.
LIMITED = ("reid", "auc", "explained")


@dataclass(frozen=True)
class Limit:
    """A limit on a measure: an audit whose strongest attacker is above it fails.

    Parameters
    ----------
    measure : {"reid", "auc", "explained"}
        Share of victims re-identified, AUC of a private attribute, or share of the inputs' variance that is rebuilt.
    value : float
        From 0 to 1.
    """

    measure: str
    value: float

    @property
    def written(self) -> str:
        """The limit as text."""
        return f"{self.measure} {self.value:g}"


def seconds(text: str) -> float:
    """Return the seconds of "90s", "20m", "1h" or "1h30m".

    Raises
    ------
    StudyError
        The text is no time, or is below 30 seconds.
    """
    parts = re.fullmatch(r"\s*((?:\d+(?:\.\d+)?\s*[smh]\s*)+)", text.lower())
    if parts is None:
        raise StudyError(f"--budget: {text!r} is not a time; write it as 90s, 20m or 1h")
    total = sum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)\s*([smh])", parts[1]))
    if total < _LEAST_SECONDS:
        raise StudyError(f"--budget: {text} is too short for an audit; give 30s or more")
    return total


def words(text: str) -> tuple[str, ...]:
    """Return the parts of "a,b"."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of "1,3".

    Raises
    ------
    StudyError
        A part is not a number.
    """
    try:
        return tuple(int(part) for part in words(text))
    except ValueError:
        raise StudyError(f"--cuts: {text!r} is not a list of numbers; write it as 1,3") from None


def memory(text: str) -> int:
    """Return the bytes of "4g" or "1500m".

    Raises
    ------
    StudyError
        The text is no size, or is below 1 GiB.
    """
    try:
        size = parse_size(text, "--memory")
    except ValueError as error:
        raise StudyError(str(error)) from None
    if size < _LEAST_MEMORY:
        raise StudyError(f"--memory: {text} is too little for an audit; give 1G or more")
    return size


def limits(texts: tuple[str, ...]) -> tuple[Limit, ...]:
    """Return the limits of "reid=5%" and "auc=0.6".

    Raises
    ------
    StudyError
        A measure is unknown, or a number is no share between 0 and 1.
    """
    return tuple(_limit(text) for text in texts)


def _limit(text: str) -> Limit:
    measure, equals, number = (part.strip() for part in text.partition("="))
    if not equals:
        raise StudyError(f'--fail-above: {text!r} is not "measure=number"; write reid=5% or auc=0.6')
    if measure not in LIMITED:
        raise StudyError(f"--fail-above: {unknown('measure', measure, LIMITED)}")
    try:
        value = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        hint = f"{number}%" if number.replace(".", "", 1).isdigit() and float(number) <= 100 else "5% or 0.05"
        raise StudyError(f"--fail-above: {measure}={number} is no share from 0 to 1; did you mean {measure}={hint}?")
    return Limit(measure, value)


def exceeded(cuts: Sequence[Mapping[str, Any]], limits: Sequence[Limit]) -> list[str]:
    """Return a line for each limit that every audited cut exceeds, by its strongest attacker.

    Parameters
    ----------
    cuts : sequence of mapping
        Cuts as audit.json has them.
    limits : sequence of Limit
    """
    said = []
    for limit in limits:
        measured = {cut["cut"]: value for cut in cuts if (value := _measured(cut, limit.measure)) is not None}
        if not measured:
            said.append(f"--fail-above: no attack gave a {limit.measure}, so the limit was not checked")
            continue
        best = min(measured, key=lambda cut: measured[cut])
        if measured[best] > limit.value:
            said.append(
                f"--fail-above: every cut is above {limit.written}; the lowest is cut {best} with {measured[best]:.3g}"
            )
    return said


def _measured(cut: Mapping[str, Any], measure: str) -> float | None:
    """Return the strongest attacker's score at a cut."""
    rebuilt = cut["reconstruction"]
    if measure == "auc":
        return max((leak["auc"] for leak in cut["attributes"].values()), default=None)
    if rebuilt is None:
        return None
    if measure == "reid":
        return None if rebuilt["reid"] is None else float(rebuilt["reid"]["reid"])
    return float(rebuilt["explained"])
