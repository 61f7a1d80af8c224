"""The studies that come with wireleak, and how a study is read."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError

from wireleak.common.config import first_mistake
from wireleak.common.registry import unknown
from wireleak.lab.study.schema import Study, StudyError


def study_files() -> dict[str, Path]:
    """Studies that come with wireleak, by name."""
    paths = Path(__file__).parent.glob("*/*.toml")
    return {path.stem: path for path in sorted(paths, key=lambda path: path.stem)}


def load_study(name: str) -> tuple[Study, Path]:
    """Read a study by name or by path.

    Parameters
    ----------
    name : str
        A name that `wireleak studies` lists, or the path of a TOML file.

    Returns
    -------
    study : Study
    path : Path

    Raises
    ------
    StudyError
        Unknown study, TOML that does not parse, or the first field that does not validate.
    """
    known = study_files()
    path = known.get(name, Path(name))
    if not path.is_file():
        raise StudyError(f"study: {unknown('study or file', name, known, 'or give a .toml file')}")
    try:
        return Study.model_validate(tomllib.loads(path.read_text())), path
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"study: {path} is not TOML: {error}") from error
    except ValidationError as error:
        raise StudyError(f"study: {path.name}: {first_mistake(error, Study)}") from error
