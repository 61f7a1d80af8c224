"""The JSON schema of a study, with which an editor completes and checks its TOML file."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from wireleak.lab.study.schema import Study
from wireleak.lab.study.sweep import PLACE

DRAFT = "https://json-schema.org/draft/2020-12/schema"
# Tables of a variant that hold only the fields which differ from the study's own.
_DIFFERENCES = {"system": "TrainingPlan", "stream": "Stream"}
_SWEPT = "Swept"


def study_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a study's TOML file, with its sweeps.

    A file that fits the schema may still break a rule between its tables; `wireleak run` checks these rules too.
    """
    schema = Study.model_json_schema()
    pieces: dict[str, Any] = schema["$defs"]
    for field, model in _DIFFERENCES.items():
        described = pieces["Variant"]["properties"][field]
        pieces["Variant"]["properties"][field] = {
            "$ref": f"#/$defs/{model}",
            "title": described["title"],
            "description": described["description"],
        }
    pieces |= {f"{_SWEPT}{name}": _swept(piece) for name, piece in pieces.items()}
    sweep = pieces.pop(f"{_SWEPT}Variant")
    sweep["title"] = "Sweep"
    sweep["description"] = f"A variant at each of several strengths; {PLACE} in its tables is replaced by the strength."
    values = {"type": "array", "items": {"type": "number"}, "minItems": 1, "title": "Values"}
    sweep["properties"] |= {"values": values | {"description": "strengths; each makes one variant"}}
    sweep["required"] = ["name", "values"]
    pieces["Sweep"] = sweep
    sweeps = {"type": "array", "items": {"$ref": "#/$defs/Sweep"}, "title": "Sweeps"}
    schema["properties"]["sweeps"] = sweeps | {"description": "tables that each make several variants"}
    # A study with sweeps needs no variant.
    schema["required"] = [name for name in schema["required"] if name != "variants"]
    schema["anyOf"] = [{"required": ["variants"]}, {"required": ["sweeps"]}]
    schema["title"] = "wireleak study"
    return {"$schema": DRAFT, "$id": "urn:wireleak:study"} | schema


def _swept(schema: Any) -> Any:
    """Copy a schema so that it accepts the placeholder instead of any number."""
    if isinstance(schema, list):
        return [_swept(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") in ("integer", "number"):
        kept = {key: schema[key] for key in ("title", "description", "default") if key in schema}
        return kept | {"anyOf": [deepcopy(schema), {"const": PLACE}]}
    return {
        key: value.replace("#/$defs/", f"#/$defs/{_SWEPT}") if key == "$ref" else _swept(value)
        for key, value in schema.items()
    }
