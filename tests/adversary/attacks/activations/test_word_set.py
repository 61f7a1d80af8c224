"""Which words a text holds, from the mean of their embeddings."""

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from adversary.attacks.activations.perceptrons import Perceptron
from adversary.attacks.activations.word_set import WordSet, WordSetOptions
from adversary.attacks.harness.knowledge import Knowledge
from wireleak.common.measures.scores.words_found import set_f1, word_sets
from wireleak.common.targets.baselines import common_words, mean_input

WORDS, LENGTH = 40, 10


def world(
    n: Any, seed: Any = 0, noise: Any = 0.0, table: Any = np.random.default_rng(9).standard_normal((WORDS + 1, 24))
) -> Knowledge:
    """Texts of common and rare words, and the mean of their embeddings."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, WORDS + 1)
    x = 1 + rng.choice(WORDS, (n, LENGTH), p=share / share.sum())
    seen = table[x].mean(1) + noise * rng.standard_normal((n, 24))
    zeros = np.zeros(n, np.int64)
    return Knowledge(seen.astype(np.float32), x.astype(np.float32), zeros, None, 0, np.zeros(n, bool), 0)


def found(knowledge: Any, **options: Any) -> WordSet:
    attack = WordSet(WordSetOptions(**{"model": "logistic"} | options), 0)
    attack.fit(knowledge)
    return attack


def f1(guess: Any, truth: Any) -> Any:
    return set_f1(word_sets(guess, WORDS), word_sets(truth, WORDS)).mean()


@pytest.mark.parametrize("model", ["logistic", "mlp-300"])
def test_it_finds_words_that_the_commonest_do_not_give(model: str) -> None:
    known, victims = world(1200), world(300, seed=1)
    attack = found(known, model=model)
    guess, prior = attack.guess(victims.seen), np.repeat(mean_input(known.without_copies().inputs), 300, axis=0)
    assert guess.shape == prior.shape == victims.inputs.shape and guess.dtype == np.float32
    assert f1(guess, victims.inputs) > 0.8 > 0.7 > f1(prior, victims.inputs) > 0.4
    assert attack.report["held_out_loss"] == pytest.approx(1 - f1(guess, victims.inputs), abs=0.05)
    # The likeliest stand first, so that a short text's guess is cut at the right end.
    likely = attack._model.guess(victims.seen)[0]
    order = [list(attack._words).index(word) for word in guess[0][guess[0] > 0]]
    assert (np.diff(likely[order]) <= 0).all()


def test_noise_leaves_the_commonest_words() -> None:
    known, victims = world(1200, noise=50.0), world(300, seed=1, noise=50.0)
    prior = f1(np.repeat(mean_input(known.without_copies().inputs), 300, axis=0), victims.inputs)
    assert f1(found(known).guess(victims.seen), victims.inputs) == pytest.approx(prior, abs=0.03)


def test_fewer_pairs_find_less_and_are_judged_on_the_same_kind_of_rows() -> None:
    known, victims = world(1200, noise=0.2), world(300, seed=1, noise=0.2)
    few, many = found(known, examples=60), found(known)
    assert f1(few.guess(victims.seen), victims.inputs) < f1(many.guess(victims.seen), victims.inputs)
    assert (few.report["examples"], many.report["examples"]) == (60, 1200)
    assert few.report["held_out_loss"] > many.report["held_out_loss"]


def test_each_word_is_a_logistic_regression() -> None:
    """Oracle: scikit-learn's, word by word."""
    known = world(900, noise=0.3)
    labels = word_sets(known.inputs, WORDS)[:, 1:9].astype(np.float32)
    ours = Perceptron((), 8, "tanh", 0.0, 0).fit(known.seen, labels, np.zeros(900, bool), 60, 60, 0.003, 32)
    scaled = (known.seen - known.seen.mean(0)) / known.seen.std(0)
    theirs = np.stack([LogisticRegression().fit(scaled, y).predict_proba(scaled)[:, 1] for y in labels.T], 1)
    assert np.abs(ours.guess(known.seen) - theirs).mean() < 0.02


def test_the_prior_is_the_best_set_that_is_the_same_for_all() -> None:
    texts = np.array([[1, 2, 3, 0], [1, 2, 0, 0], [1, 4, 0, 0], [2, 1, 0, 0]], np.float32)
    assert common_words(texts).tolist() == [1, 2, 0, 0]
    assert common_words(np.array([[1, 2, 3], [3, 2, 1]], np.float32)).tolist() == [1, 2, 3]  # as many as a text has


def test_what_it_cannot_read_is_one_line() -> None:
    pictures = Knowledge(
        np.zeros((8, 3), np.float32), np.random.default_rng(0).random((8, 4)).astype(np.float32), np.zeros(8, np.int64),
        None, 0, np.zeros(8, bool), 0,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"attack: word-set reads texts of word numbers, not inputs of shape"):
        found(pictures)
    with pytest.raises(ValueError, match=r"options\.rarest: no word is in 99 of the 40 texts; give fewer"):
        found(world(40), rarest=99)
