"""The command that prints the JSON schemas."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from wireleak.commands.base import app, fail


@app.command(epilog="Example: wireleak schema study > study.schema.json")
def schema(
    name: Annotated[str, typer.Argument(metavar="study|results", help="schema to print")] = "study",
) -> None:
    """Print the JSON schema of a study or of results.json; editors use it to complete a study's TOML."""
    from wireleak.common.registry import unknown
    from wireleak.lab.run.results import Results
    from wireleak.lab.study.json_schema import DRAFT, study_schema

    def results_schema() -> dict[str, object]:
        return {"$schema": DRAFT, "$id": "urn:wireleak:results"} | Results.model_json_schema()

    printed = {"study": study_schema, "results": results_schema}
    if name not in printed:
        fail(f"schema: {unknown('schema', name, printed)}")
    typer.echo(json.dumps(printed[name](), indent=2))
