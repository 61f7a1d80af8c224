"""Errors that the user or the machine causes; each is shown as one clear line."""

from __future__ import annotations


def expected_errors() -> tuple[type[Exception], ...]:
    """Return the error types whose message is for the user; a function, because importing them all is slow."""
    from wireleak.lab.data import DataError
    from wireleak.lab.devices.errors import ExportError
    from wireleak.lab.launch.processes import LaunchError
    from wireleak.lab.run.results import ResultsError
    from wireleak.lab.study.schema import StudyError

    return DataError, ExportError, LaunchError, ResultsError, StudyError
