"""Attributes of two values that a study makes of others."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from wireleak.lab.data.dataset import Attribute, DataError, Dataset
from wireleak.lab.run.division import read_dataset
from wireleak.lab.study.library import load_study
from wireleak.lab.study.schema import Study


def dataset() -> Dataset:
    """Six examples with one attribute of three classes."""
    hue = Attribute("hue", np.array([0, 1, 2, 2, 1, 0]), ("red", "green", "blue"), measured=True)
    x = np.arange(6, dtype=np.float32).reshape(6, 1)
    return Dataset("made", x, np.zeros(6, np.int64), "task", ("one",), {"hue": hue}, {}, "here")


def study(binary: str) -> Study:
    """The default study with a table of binary attributes."""
    _, path = load_study("digits")
    return Study.model_validate(tomllib.loads(path.read_text() + binary))


def test_a_binary_attribute_is_one_where_another_has_one_of_the_classes() -> None:
    made = dataset().with_binary("warm", "hue", ("red", "green")).attributes["warm"]
    np.testing.assert_array_equal(made.values, [1, 1, 0, 0, 1, 1])
    assert made.classes == ("not red or green", "red or green") and made.measured


@pytest.mark.parametrize(("names", "wanted"), [({}, "1"), ({"person": ("ann", "bob", "cy")}, "bob")])
def test_a_person_s_presence_is_a_binary_attribute(names: Any, wanted: str) -> None:
    people = np.array([0, 1, 2, 2, 1, 0])
    made = replace(dataset(), groups={"person": people}, group_names=names).with_binary("here", "person", (wanted,))
    np.testing.assert_array_equal(made.attributes["here"].values, people == 1)
    with pytest.raises(DataError, match="class of person"):
        replace(dataset(), groups={"person": people}, group_names=names).with_binary("here", "person", ("dan",))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (("hue", "hue", ("red",)), "has an attribute 'hue' already"),
        (("warm", "hew", ("red",)), "did you mean 'hue'"),
        (("warm", "hue", ("redd",)), "did you mean 'red'"),
        (("warm", "hue", ("red", "green", "blue")), "all examples are"),
    ],
)
def test_a_mistake_in_a_binary_attribute_is_one_line(wanted: Any, said: str) -> None:
    with pytest.raises(DataError, match=said) as raised:
        dataset().with_binary(*wanted)
    assert "\n" not in str(raised.value)


def test_a_study_names_binary_attributes() -> None:
    table = '\n[data.binary]\nround-digit = { attribute = "digit", classes = ["0", "8"] }'
    found = read_dataset(study(table), None)
    digits = found.attributes["digit"]
    names = np.array(digits.classes)[digits.values]
    np.testing.assert_array_equal(found.attributes["round-digit"].values == 1, np.isin(names, ["0", "8"]))
