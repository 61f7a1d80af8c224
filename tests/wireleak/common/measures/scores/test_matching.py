"""The Hungarian rule, against trying all orders."""

from itertools import permutations

import numpy as np
import pytest

from wireleak.common.measures.scores.matching import match


def test_the_order_is_the_best_of_all() -> None:
    rng = np.random.default_rng(0)
    guess, truth = rng.random((5, 2, 3)), rng.random((5, 2, 3))
    best = min(permutations(range(5)), key=lambda order: ((guess[list(order)] - truth) ** 2).sum())
    assert match(guess, truth).tolist() == list(best)


def test_a_shuffled_truth_is_found_again() -> None:
    truth = np.random.default_rng(1).random((7, 4))
    order = np.random.default_rng(2).permutation(7)
    np.testing.assert_array_equal(truth[order][match(truth[order], truth)], truth)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        match(np.zeros((2, 3)), np.zeros((3, 3)))
