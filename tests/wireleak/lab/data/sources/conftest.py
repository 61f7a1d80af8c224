"""Packed data sets, where they are at hand."""

import pytest


@pytest.fixture
def packed(shared_data):
    """Function: the folder of packed data sets, or a skip that names the missing file."""

    def find(name):
        if not (shared_data / name).is_file():
            pytest.skip(f"needs {shared_data / name}")
        return shared_data

    return find
