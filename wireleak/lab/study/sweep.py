"""A sweep: one table of a study that makes a variant at each of several strengths.

A `[[sweeps]]` table has the fields of a variant and a list of numbers, `values`; each number makes a variant. In the
table's texts, "{value}" is replaced by the number; a text that is only "{value}" becomes the number itself. A variant's
name is the sweep's name and the number. Its `strength` is the number, unless the table sets one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PLACE = "{value}"


def with_sweeps(study: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study's tables, as read from TOML, with the variants of each sweep after the other variants.

    Raises
    ------
    ValueError
        A sweep has no values or no name, or no placeholder; the message begins with the field.
    """
    tables = dict(study)
    sweeps = tables.pop("sweeps", [])
    if not isinstance(sweeps, list) or not all(isinstance(sweep, dict) for sweep in sweeps):
        raise ValueError("sweeps: is not a list of tables; write each sweep as [[sweeps]]")
    made = [variant for place, sweep in enumerate(sweeps) for variant in _variants(f"sweeps[{place}]", sweep)]
    return tables | {"variants": [*tables.get("variants", []), *made]} if made else tables


def _variants(field: str, sweep: Mapping[str, Any]) -> list[dict[str, Any]]:
    template = dict(sweep)
    values = template.pop("values", None)
    if not isinstance(values, list) or not values or any(type(value) not in (int, float) for value in values):
        raise ValueError(f"{field}.values: is {values!r}; give a list of numbers, one for each variant")
    if _filled(template, 0) == template:
        raise ValueError(
            f'{field}: "{PLACE}" occurs nowhere, so all variants would be the same; write it where the number belongs'
        )
    if not isinstance(name := template.pop("name", None), str):
        raise ValueError(f"{field}.name: is missing; the names of its variants begin with it")
    names = [{"name": f"{name}-{value:g}".replace(".", "-"), "strength": value} for value in values]
    return [own | _filled(template, value) for own, value in zip(names, values, strict=True)]


def _filled(part: Any, value: float) -> Any:
    if isinstance(part, dict):
        return {key: _filled(inner, value) for key, inner in part.items()}
    if isinstance(part, list):
        return [_filled(inner, value) for inner in part]
    if isinstance(part, str):
        return value if part == PLACE else part.replace(PLACE, f"{value:g}")
    return part
