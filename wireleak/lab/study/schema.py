"""A study: one TOML file that declares an experiment. All of it is checked before anything starts."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from wireleak.lab.study.rules import mistakes
from wireleak.lab.study.sweep import with_sweeps
from wireleak.lab.study.tables import Tables


class StudyError(ValueError):
    """A study cannot run as declared: one line that names the field and the fix."""


class Study(Tables):
    """A declared experiment."""

    @model_validator(mode="before")
    @classmethod
    def _sweep(cls, tables: Any) -> Any:
        return with_sweeps(tables) if isinstance(tables, dict) else tables

    @model_validator(mode="after")
    def _tables_agree(self) -> Study:
        if mistake := next(mistakes(self), None):
            raise ValueError(mistake)
        return self
