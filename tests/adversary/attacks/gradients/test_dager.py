"""Exact text from gradients: whole batches while their words are fewer than the layer's inputs, nothing beyond."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.linalg import subspace_angles

from adversary.attacks.gradients.dager import Dager, DagerOptions
from tests.adversary.attacks.gradients.inversions import federate, run
from wireleak.common.models.zoo.transformer import BUCKETS, WIDTH


def model(length: Any) -> Any:
    return {"name": "tiny-transformer", "input_shape": (length,), "classes": 2, "cut": 1}


def texts(clients: Any, count: Any, length: Any, seed: Any) -> npt.NDArray[np.float32]:
    """Word numbers (clients, count, length) of texts of different length, some words common to them."""
    rng = np.random.default_rng(seed)
    x = rng.integers(1, BUCKETS + 1, (clients, count, length)).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = 17
    for text in x.reshape(-1, length)[::2]:
        text[rng.integers(length // 2, length) :] = 0
    return x


def seen_of(x: Any, **how: Any) -> Any:
    labels = np.random.default_rng(1).integers(0, 2, x.shape[:2])
    return federate(model(x.shape[2]), x, labels, **how)


def rows(x: Any) -> Any:
    return {tuple(text) for text in x.astype(int).tolist()}


@pytest.mark.parametrize(("count", "length"), [(1, 24), (4, 12)])
def test_every_text_comes_back_word_for_word(count: int, length: int) -> None:
    x = texts(2, count, length, count)
    found = run(attack := Dager(DagerOptions(), 0), seen_of(x))
    assert found.shape == (2 * count, length)
    for client in range(2):
        assert rows(found[client * count : (client + 1) * count]) == rows(x[client])
    assert max(max(ranks) for ranks in attack.report["ranks"]) < WIDTH


def test_the_span_is_that_of_the_words_states() -> None:
    x = texts(1, 2, 8, 3)
    known = seen_of(x)
    attack = Dager(DagerOptions(), 0)
    attack.fit(known)
    (update,) = known.training.updates
    blocks = known.network().blocks.double()
    with torch.no_grad():
        states = blocks[1].before(blocks[0](torch.from_numpy(x[0])))[torch.from_numpy(x[0] > 0)].numpy()
    span = attack._span(update, "1.project.weight").numpy()
    assert span.shape[1] == np.linalg.matrix_rank(states)
    assert subspace_angles(span, states.T).max() < 0.01


def test_more_words_than_the_layer_has_inputs_are_safe_from_it() -> None:
    x = texts(1, 12, 16, 4)
    x[x == 0] = 5
    found = run(attack := Dager(DagerOptions(), 0), seen_of(x))
    assert not found.any() and attack.report["texts"] == [0]
    # A layer norm takes the mean away: one direction fewer than inputs.
    assert attack.report["ranks"][0][0] == WIDTH - 1


def test_noise_on_the_update_stops_it() -> None:
    x = texts(1, 1, 12, 5)
    known = seen_of(x)
    (update,) = known.training.updates
    rng = np.random.default_rng(0)
    noised = {
        name: value
        + np.float32(0.1 * np.std(value - update.start[name])) * rng.standard_normal(value.shape, np.float32)
        for name, value in update.end.items()
    }
    known = replace(known, training=replace(known.training, updates=(replace(update, end=noised),)))
    assert not rows(run(Dager(DagerOptions(), 0), known)) & rows(x[0])


def test_a_network_that_is_no_transformer_is_refused_in_one_line() -> None:
    lstm = {"name": "lstm", "input_shape": (8,), "classes": 2, "cut": 1}
    known = federate(lstm, texts(1, 2, 8, 3), np.array([[0, 1]]))
    with pytest.raises(ValueError, match="tiny-transformer") as error:
        Dager(DagerOptions(), 0).fit(known)
    assert "\n" not in str(error.value)
