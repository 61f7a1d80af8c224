"""The printed schema of a study: every study of the library fits it, a misspelt key does not."""

import json
import tomllib
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from wireleak.cli import app
from wireleak.lab.study.library import study_files

STUDIES = study_files()


@pytest.fixture(scope="module")
def validator() -> Any:
    result = CliRunner().invoke(app, ["schema", "study"])
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def tables(name: Any) -> dict[str, Any]:
    return tomllib.loads(STUDIES[name].read_text())


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_fits_the_schema(validator: Any, name: Any) -> None:
    assert [error.message for error in validator.iter_errors(tables(name))] == []


@pytest.mark.parametrize("place", ["", "data", "system", "variants", "attacks", "sweeps"])
def test_an_unknown_key_does_not(validator: Any, place: str) -> None:
    study = tables("defences-full")
    table = study[place] if place else study
    (table[0] if isinstance(table, list) else table)["cutt"] = 1
    assert any("cutt" in error.message for error in validator.iter_errors(study))


def test_a_sweep_needs_values_and_takes_its_placeholder_only_for_numbers(validator: Any) -> None:
    study = tables("defences-full")
    (sweep,) = study["sweeps"][:1]
    assert not list(validator.iter_errors(study | {"sweeps": [sweep | {"cut": "{value}"}]}))
    assert list(validator.iter_errors(study | {"sweeps": [sweep | {"link": "{value}"}]}))
    assert list(validator.iter_errors(study | {"sweeps": [{key: sweep[key] for key in sweep if key != "values"}]}))


def test_every_field_has_a_description(validator: Any) -> None:
    pieces = {"study": validator.schema} | validator.schema["$defs"]
    missing = [
        f"{piece}.{name}"
        for piece, schema in pieces.items()
        for name, field in schema.get("properties", {}).items()
        if "description" not in field
    ]
    assert missing == []


def test_an_unknown_schema_is_one_line() -> None:
    result = CliRunner().invoke(app, ["schema", "studdy"])
    assert result.exit_code == 2 and "did you mean 'study'?" in result.stderr
