"""The registry of data sets: names, options, where data are searched, and what a data set checks of itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wireleak.lab import data
from wireleak.lab.data import registry
from wireleak.lab.data.dataset import Dataset


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        data.DataError, match=r"no data set called 'dgits'; did you mean 'digits'\? Choose one of .*digits, fairface"
    ):
        data.load("dgits")
    with pytest.raises(data.DataError, match="no data set called 'x'"):
        data.describe("x")


def test_unknown_option_lists_the_known_ones() -> None:
    with pytest.raises(
        data.DataError, match=r"omniglot: no option called 'pixels'; choose one of size, part, alphabets"
    ):
        data.load("omniglot", pixels=3)


@pytest.mark.parametrize("name", ["fairface", "motionsense", "omniglot"])
def test_absent_data_says_where_it_looked_and_how_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match=f"{name}: not found in {tmp_path}; .*https://github.com/") as error:
        data.load(name, tmp_path)
    assert "\n" not in str(error.value)
    assert [d.where for d in data.describe(name, tmp_path)] == [None]


def test_search_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WIRELEAK_DATA", str(tmp_path / "mine"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    assert registry.search_folders() == [tmp_path / "mine", tmp_path / "home/.cache/wireleak/data"]
    assert registry.search_folders(tmp_path) == [tmp_path]


ELSEWHERE = """
from pathlib import Path
import numpy as np
from wireleak.lab import data

@data.register(
    "elsewhere",
    locate=lambda folders: Path(),
    examples=1,
    shape=(1,),
    task="t",
    attributes=(),
    obtain="-",
    licence="-",
)
def elsewhere(where, size=2):
    x = np.zeros((size, 1), np.float32)
    return data.Dataset("elsewhere", x, np.zeros(size, np.int64), "t", ("a", "b"), {}, {}, "-")
"""


def test_a_data_set_of_another_package_is_found_through_its_entry_point(installed: Any) -> None:
    installed(registry.SOURCES, ELSEWHERE, elsewhere="outside")
    assert "elsewhere" in data.names()
    assert len(data.load("elsewhere", size=3)) == 3


def small(x: Any = None, y: Any = None, **fields: Any) -> Dataset:
    x = np.zeros((4, 1), np.float32) if x is None else x
    y = np.zeros(len(x), np.int64) if y is None else y
    return data.Dataset("small", x, y, "task", ("a", "b"), fields.pop("attributes", {}), fields.pop("groups", {}), "-")


def test_a_data_set_checks_itself() -> None:
    with pytest.raises(data.DataError, match="y must be int64"):
        small(y=np.zeros(3, np.int64))
    with pytest.raises(data.DataError, match=r"y holds values outside 0\.\.1"):
        small(y=np.full(4, 2, np.int64))
    with pytest.raises(data.DataError, match="finite"):
        small(x=np.full((4, 1), np.nan, np.float32))
    with pytest.raises(data.DataError, match="no examples"):
        small(x=np.zeros((0, 1), np.float32))
    with pytest.raises(data.DataError, match="no attribute called 'gender'; choose one of none"):
        small().attribute("gender")
