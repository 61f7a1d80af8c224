"""Translate results of older versions."""

from __future__ import annotations

from typing import Any

from wireleak.common.references import reference

_LOST_FROM_VERSION_1 = (
    "An older version of wireleak made this run, so comparisons of defences, maps of updates and layer profiles are "
    "missing. To add them, resume the run with `wireleak run`; it scores again without a new capture"
)


def of_version(content: Any, current: int) -> Any:
    """Return the content of `results.json` in today's fields; raise ValueError for a version that is not known."""
    version = content.get("schema_version", current) if isinstance(content, dict) else current
    if version == 1:
        rows = [from_version_1(row) if isinstance(row, dict) else row for row in content.get("rows", [])]
        notes = [*content.get("notes", []), _LOST_FROM_VERSION_1]
        return content | {"schema_version": current, "rows": rows, "notes": notes}
    if version != current:
        raise ValueError(f"schema_version {version} is not {current}; run the study again with this version")
    return content


def from_version_1(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of version 1, which named role and baseline in one field, in today's fields."""
    kept = {key: value for key, value in row.items() if key != "control"}
    control = str(row.get("control", ""))
    bound = control.startswith("bound (")
    name = control.removeprefix("bound (").removesuffix(")") if bound else control
    role = "bound" if bound else reference(name).role if name else "attack"
    measure = str(row.get("measure", "")).replace("balanced_accuracy", "balanced-accuracy")
    return kept | {"measure": measure, "role": role, "name": name}
