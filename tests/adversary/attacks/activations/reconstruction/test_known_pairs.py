from typing import Any

import numpy as np
import pytest
import torch

from adversary.attacks.activations.reconstruction.known_pairs import KnownPairs, KnownPairsOptions
from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.harness.run import attack


def known_from(seen: Any, inputs: Any, augmented: Any = None) -> Knowledge:
    copies = np.zeros(len(inputs), bool) if augmented is None else augmented
    return Knowledge(seen, inputs, np.zeros(len(inputs), np.int64), None, 0, copies, 0)


def fitted(known: Any, seed: Any = 0, **options: Any) -> KnownPairs:
    made = KnownPairs(KnownPairsOptions(**options), seed)
    made.fit(known)
    return made


def mse(guess: Any, truth: Any) -> float:
    return float(np.mean((guess - truth) ** 2))


@pytest.fixture(scope="module")
def flat() -> Any:
    """Inputs of rank 6 and a flat, linear code of them."""
    rng = np.random.default_rng(0)
    basis, weights = rng.standard_normal((6, 64)) * 0.1, rng.standard_normal((64, 12))
    x = np.clip(0.5 + rng.standard_normal((200, 6)) @ basis, 0, 1).astype(np.float32)
    return (x @ weights).astype(np.float32), x.reshape(-1, 1, 8, 8)


def test_a_linear_code_is_left_to_ridge_and_more_pairs_tell_more(flat: Any) -> None:
    z, x = flat
    known = known_from(z[:150], x[:150])
    few, many = fitted(known, pairs=5, steps=30), fitted(known, pairs=80, steps=30)
    assert many.report["chosen"] == "ridge" and many.report["known_pairs"] == 80
    error = {n: mse(made.guess(z[150:]), x[150:]) for n, made in (("few", few), ("many", many))}
    assert error["many"] < 0.2 * error["few"] < error["few"] < mse(x[:150].mean(0), x[150:])


def test_a_convolution_is_left_to_the_decoder_and_ten_pairs_suffice() -> None:
    rng = np.random.default_rng(0)
    weights = torch.from_numpy(rng.standard_normal((8, 1, 3, 3)).astype(np.float32) / 3)
    coarse = np.pad(rng.random((50, 1, 6, 6)).astype(np.float32), ((0, 0), (0, 0), (1, 1), (1, 1)))
    x = np.kron(coarse, np.ones((2, 2), np.float32))
    z = torch.nn.functional.conv2d(torch.from_numpy(x), weights).numpy()
    made = fitted(known_from(z[:10], x[:10]), pairs=10, steps=300)
    assert made.report["chosen"] == "decoder"
    assert made.report["candidates"]["decoder"] < 0.5 * made.report["candidates"]["ridge"]
    guess = made.guess(z[10:])
    assert guess.shape == x[10:].shape and guess.min() >= 0 and guess.max() <= 1
    assert mse(guess, x[10:]) < 0.25 * mse(x[:10].mean(0), x[10:])


def test_only_the_known_pairs_matter_and_fewer_are_a_part_of_more(flat: Any) -> None:
    z, x = flat
    order = np.random.default_rng(0).permutation(100)
    for n in (10, 20):
        # Every pair but the first n of the order is garbage.
        spoilt_z, spoilt_x = z[:100].copy(), x[:100].copy()
        spoilt_z[order[20:]], spoilt_x[order[20:]] = 1e3, 1.0
        clean = fitted(known_from(z[:100], x[:100]), pairs=n, steps=10).guess(z[150:])
        assert np.array_equal(clean, fitted(known_from(spoilt_z, spoilt_x), pairs=n, steps=10).guess(z[150:]))


def test_transformed_copies_are_no_known_pairs(flat: Any) -> None:
    z, x = flat
    copies = np.arange(100) >= 40
    with pytest.raises(ValueError, match=r"options\.pairs: 50 is more than the 40 captured pairs; give fewer"):
        fitted(known_from(z[:100], x[:100], copies), pairs=50)
    assert fitted(known_from(z[:100], x[:100], copies), pairs=40, steps=10).report["known_pairs"] == 40


def test_more_pairs_than_were_captured_end_the_attack_with_one_line(
    config: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    # The device sent 360 inputs, of which 120 are transformed copies.
    path, out = config(attack="known-pairs", options={"pairs": 241})
    with pytest.raises(SystemExit) as end:
        attack(path)
    told = capsys.readouterr().err
    assert end.value.code == 2 and told == "options.pairs: 241 is more than the 240 captured pairs; give fewer\n"
    assert not out.exists()
