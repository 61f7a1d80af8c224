"""A sweep: one table of a study that stands for a variant at each of several strengths.

A `[[sweeps]]` table is a variant's, with `values` beside: numbers, of which each makes a variant. Wherever its text
says "{value}" the number stands instead; where that is the whole text, as a number. The variant is called after the
sweep and its number, and its `strength` is the number unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLACE = "{value}"


def with_sweeps(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study's tables, as TOML gives them, with each sweep's variants after the others.

    Raises
    ------
    ValueError
        A sweep has no values, or nothing in it that they change; the message begins with the field.
    """
    tables = dict(study)
    sweeps = tables.pop("sweeps", [])
    if not isinstance(sweeps, list) or not all(isinstance(sweep, dict) for sweep in sweeps):
        raise ValueError("sweeps: write each as a table [[sweeps]]")
    made = [variant for place, sweep in enumerate(sweeps) for variant in _variants(f"sweeps[{place}]", sweep)]
    return tables | {"variants": [*tables.get("variants", []), *made]} if made else tables


def _variants(field: str, sweep: Mapping[str, Any]) -> list[dict[str, Any]]:
    template = dict(sweep)
    values = template.pop("values", None)
    if not isinstance(values, list) or not values or any(type(value) not in (int, float) for value in values):
        raise ValueError(f"{field}.values: give a list of numbers, one a variant")
    if _filled(template, 0) == template:
        raise ValueError(f'{field}: nothing in it says "{PLACE}", so all its variants would be the same')
    if not isinstance(name := template.pop("name", None), str):
        raise ValueError(f"{field}.name: is missing; its variants are called after it")
    called = [{"name": f"{name}-{value:g}".replace(".", "-"), "strength": value} for value in values]
    return [own | _filled(template, value) for own, value in zip(called, values, strict=True)]


def _filled(what: Any, value: float) -> Any:
    if isinstance(what, dict):
        return {key: _filled(inner, value) for key, inner in what.items()}
    if isinstance(what, list):
        return [_filled(inner, value) for inner in what]
    if isinstance(what, str):
        return value if what == PLACE else what.replace(PLACE, f"{value:g}")
    return what
