from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from adversary.attacks.activations.reconstruction.inverse_network import (
    InverseNetwork,
    InverseNetworkOptions,
)
from adversary.attacks.activations.reconstruction.transposed import transposed_decoder
from adversary.attacks.harness.decoders import DenseDecoder
from adversary.attacks.harness.knowledge import Knowledge


def kernels(decoder: Any) -> Any:
    return [tuple(p.shape) for p in decoder.parameters() if p.dim() > 1]


def test_the_decoders_are_he_et_als() -> None:
    # net.py: LeNetDecoderconv1, LeNetDecoderReLU2 and CIFAR10CNNDecoderReLU22; one convolution with padding 4 is a
    # transposed one without.
    assert kernels(transposed_decoder((8, 24, 24), (1, 28, 28))) == [(8, 1, 5, 5)]
    assert kernels(transposed_decoder((16, 8, 8), (1, 28, 28))) == [(16, 8, 5, 5), (8, 1, 5, 5)]
    assert kernels(transposed_decoder((128, 16, 16), (3, 32, 32))) == [(128, 64, 3, 3), (64, 3, 3, 3)]


@pytest.mark.parametrize(
    ("activation", "image", "dense"),
    [
        ((8, 24, 24), (1, 28, 28), False),
        ((16, 8, 8), (1, 28, 28), False),
        ((16, 14, 14), (1, 28, 28), False),
        ((32, 7, 7), (1, 28, 28), False),
        ((4, 26, 26), (1, 28, 28), False),
        ((4, 28, 28), (1, 28, 28), False),
        ((8, 53, 53), (1, 105, 105), False),
        ((64, 32), (6, 128), False),
        ((32, 2, 2), (1, 28, 28), True),
        ((32, 14, 7), (1, 28, 28), True),
        ((120,), (1, 28, 28), True),
        ((50,), (784,), True),
    ],
)
def test_any_shape_gets_a_decoder_that_gives_the_image(activation: Any, image: Any, dense: bool) -> None:
    decoder = transposed_decoder(activation, image)
    assert isinstance(decoder, DenseDecoder) == dense
    assert decoder(torch.randn(3, *activation)).shape == (3, *image)


def test_a_convolution_is_inverted_and_noise_as_queries_is_worse() -> None:
    weights = torch.from_numpy(np.random.default_rng(0).standard_normal((8, 1, 3, 3)).astype(np.float32) / 3)
    rng = np.random.default_rng(1)

    def pictures(n: Any) -> npt.NDArray[np.float32]:
        # Smooth, in [0, 1], on black, as digits are: sums of a few cosines.
        grid = np.cos(np.pi * np.arange(4)[:, None] * (np.arange(12) + 0.5) / 12)
        waves = np.einsum("nij,ih,jw->nhw", rng.standard_normal((n, 4, 4)), grid, grid)
        return np.pad(np.clip(0.5 + 0.1 * waves, 0, 1), ((0, 0), (2, 2), (2, 2))).astype(np.float32)[:, None]

    def sent(x: Any) -> Any:
        return torch.nn.functional.conv2d(torch.from_numpy(x), weights).numpy()

    own, truth = pictures(240), pictures(40)
    noise = np.clip(0.5 + 0.3 * rng.standard_normal(own.shape), 0, 1).astype(np.float32)
    error = {}
    for name, x in (("own", own), ("noise", noise)):
        labels, copies = np.zeros(len(x), np.int64), np.zeros(len(x), bool)
        attack = InverseNetwork(InverseNetworkOptions(epochs=40), 0)
        attack.fit(Knowledge(sent(x), x, labels, None, 0, copies, 0))
        guess = attack.guess(sent(truth))
        assert guess.shape == truth.shape and guess.dtype == np.float32 and 0 <= guess.min() <= guess.max() <= 1
        error[name] = float(np.mean((guess - truth) ** 2))
        if name == "own":
            assert error[name] == pytest.approx(attack.report["validation_mse"], rel=0.5)
    assert error["own"] < 0.3 * np.mean((own.mean(0) - truth) ** 2)
    assert error["own"] < error["noise"]


def test_the_seed_decides_everything() -> None:
    rng = np.random.default_rng(0)
    x, z = rng.random((40, 1, 8, 8), np.float32), rng.random((40, 5), np.float32)
    known = Knowledge(z, x, np.zeros(40, np.int64), None, 0, np.zeros(40, bool), 0)
    guesses = []
    for seed in (1, 1, 2):
        attack = InverseNetwork(InverseNetworkOptions(epochs=2), seed)
        attack.fit(known)
        guesses.append(attack.guess(z))
    assert np.array_equal(guesses[0], guesses[1]) and not np.array_equal(guesses[0], guesses[2])
