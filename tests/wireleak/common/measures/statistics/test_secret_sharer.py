"""Planted numbers in a text that every Python carries, and a language model that learns some of them by heart."""

from __future__ import annotations

import math
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from wireleak.common.measures.statistics.secret_sharer import (
    ALPHABET,
    PHRASE,
    WINDOW,
    draw_canaries,
    exposures,
    numbers,
    perplexities,
    planted,
    windows,
)
from wireleak.common.models.networks import build
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import ClientPlan


class Fixed(nn.Module):
    """A model that expects one number, and otherwise any character alike, or later ones rather."""

    def __init__(self, favourite: Any, lean: Any = 0.0) -> None:
        super().__init__()
        self.favourite, self.lean = favourite, lean

    def forward(self, asked: Any) -> torch.Tensor:
        logits = torch.linspace(0, self.lean, len(ALPHABET)).repeat(len(asked), 1)
        for row, window in enumerate(asked.numpy().astype(int)):
            text = "".join(ALPHABET[number - 1] for number in window if number)
            for length in range(len(self.favourite)):
                if text.endswith((PHRASE + self.favourite[:length])[-WINDOW:]):
                    logits[row, ALPHABET.index(self.favourite[length])] = 5.0
        return logits


def test_windows_are_what_precedes_each_character() -> None:
    x, y = windows("Ab9")
    assert x.shape == (3, WINDOW)
    assert [ALPHABET[place] for place in y] == ["a", "b", "9"]
    assert not x[0].any() and x[2, -2:].tolist() == [1, 2] and not x[2, :-2].any()
    assert numbers("a~\n").tolist() == [1, 37, 37]


def test_perplexities_are_the_models_own_digit_by_digit() -> None:
    found = perplexities(Fixed("407"), 3)
    liked = math.log2(math.exp(5) / (math.exp(5) + len(ALPHABET) - 1))
    other = math.log2(1 / (math.exp(5) + len(ALPHABET) - 1))
    flat = -math.log2(len(ALPHABET))
    assert found.shape == (1000,)
    assert found[407] == pytest.approx(-3 * liked, rel=1e-5)
    assert found[403] == pytest.approx(-(2 * liked + other), rel=1e-5)
    assert found[107] == pytest.approx(-(other + 2 * flat), rel=1e-5)


def test_a_model_that_knows_the_number_exposes_it_fully_and_no_other() -> None:
    rng = np.random.default_rng(0)
    canaries = {"407": 8, "111": 0}
    known, unknown = exposures(Fixed("407", lean=2.0), canaries, rng, samples=100)
    assert known.exposure == pytest.approx(math.log2(1000)) and known.times == 8
    assert unknown.exposure < 1 and unknown.extrapolated < 2


def test_drawn_canaries_differ_and_are_planted_as_often_as_said() -> None:
    canaries = draw_canaries([1, 2, 4], 4, np.random.default_rng(1))
    assert len(canaries) == 3 and all(len(digits) == 4 for digits in canaries) and list(canaries.values()) == [1, 2, 4]
    x, y = planted("hello", canaries)
    sentence = len(PHRASE) + 5
    assert len(x) == len(y) == 5 + 7 * sentence


def test_what_is_planted_more_often_is_more_exposed() -> None:
    """Never, 4 and 20 times among 1,500 characters of Python's help; three digits."""
    text = topics["execmodel"][:1500]
    canaries = draw_canaries([0, 0, 0, 0, 4, 20], 3, np.random.default_rng(2))
    x, y = planted(text, canaries)
    blocks = build("char-lstm", (WINDOW,), len(ALPHABET), 0).blocks
    train_whole(blocks, x, y, Training(ClientPlan(epochs=8, batch=32, learning_rate=0.01), (0,)))
    found = exposures(blocks, canaries, np.random.default_rng(3))
    never = np.mean([one.exposure for one in found if not one.times])
    assert found[-1].exposure == pytest.approx(math.log2(1000)) and never < 4
    assert found[-1].extrapolated > 5 > never
