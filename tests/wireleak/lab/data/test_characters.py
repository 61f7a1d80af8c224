"""Windows of characters of the prose that scikit-learn carries."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import sklearn

from wireleak.common.measures.statistics.secret_sharer import ALPHABET, WINDOW
from wireleak.lab import data
from wireleak.lab.data.dataset import Dataset
from wireleak.lab.data.sources import characters as module


@pytest.fixture(scope="module")
def prose() -> Dataset:
    return data.load("characters")


def test_every_window_stands_before_its_class_in_its_own_document(prose: Dataset) -> None:
    """Oracle: the files, cleaned by a regular expression."""
    folder = Path(sklearn.__file__).parent / "datasets" / "descr"
    names = prose.group_names["document"]
    texts = [re.sub(r"[^a-z0-9.,'-]+", " ", (folder / f"{name}.rst").read_text().lower()).strip() for name in names]
    letters = "\0" + ALPHABET
    for row in np.random.default_rng(0).permutation(len(prose))[:500]:
        window = "".join(letters[int(number)] for number in prose.x[row]).lstrip("\0")
        text = texts[prose.groups["document"][row]]
        assert (window + ALPHABET[prose.y[row]]) in text
        assert len(window) == WINDOW or text.startswith(window)


def test_no_window_repeats_so_that_no_two_parties_hold_one(prose: Dataset) -> None:
    assert len(np.unique(prose.x, axis=0)) == len(prose) > 20_000
    assert prose.input_shape == (WINDOW,) and len(prose.classes) == len(ALPHABET)
    roles = data.assign_roles(prose, clients=900, evaluation=100, attacker=50, victims=50, seed=1)
    assert roles.duplicates == 0
    data.refuse_overlap({name: prose.x[getattr(roles, name)] for name in ("clients", "evaluation", "attacker")})


def test_prose_has_one_space_where_something_else_stood() -> None:
    assert module.prose("  Ab:\n\n ===\tc-3, 'd'. ") == "ab c-3, 'd'."


def test_without_scikit_learn_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(data.DataError, match=r"^characters: not found in .*; it comes with the package scikit-learn"):
        data.load("characters")
