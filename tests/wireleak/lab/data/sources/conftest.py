"""Packed data sets, where they are at hand."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def packed(shared_data: Path) -> Any:
    """Function: the folder of packed data sets, or a skip that names the missing file."""

    def find(name: Any) -> Any:
        if not (shared_data / name).is_file():
            pytest.skip(f"needs {shared_data / name}")
        return shared_data

    return find
