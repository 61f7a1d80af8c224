import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from adversary.attacks.activations.reconstruction.rmle import Rmle
from adversary.attacks.activations.reconstruction.rmle_prior import RmleWithPrior
from adversary.attacks.activations.reconstruction.search import SearchOptions, invert, total_variation
from adversary.attacks.harness.knowledge import Knowledge
from wireleak.common.models import ModelConfig, networks, save_weights

SHAPE, SIZE = (1, 4, 4), 16


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    networks.names()  # registers ours, which must not be lost with the copy
    monkeypatch.setattr(networks.NETWORKS, "_plugins", dict(networks.NETWORKS._plugins))
    networks.register("rmle-linear")(linear)


def linear(input_shape: Any, classes: Any) -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(SIZE, SIZE)), nn.Linear(SIZE, classes))


def of(matrix: Any) -> nn.Sequential:
    """A linear encoder x -> x @ matrix.T."""
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(matrix))
    return nn.Sequential(nn.Flatten(), layer)


def orthonormal(seed: Any = 0) -> Any:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((SIZE, SIZE)))[0].astype(np.float32)


def inputs(n: Any, seed: Any = 1) -> Any:
    return np.random.default_rng(seed).uniform(0.1, 0.9, (n, *SHAPE)).astype(np.float32)


def knowledge(**changes: Any) -> Knowledge:
    none = np.zeros((0, *SHAPE), np.float32)
    fields: dict[str, Any] = {
        "seen": np.zeros(0, np.float32),
        "inputs": none,
        "labels": np.zeros(0, np.int64),
        "attribute": None,
        "classes": 0,
        "augmented": np.zeros(0, bool),
        "seed": 0,
        "model": ModelConfig(name="rmle-linear", input_shape=SHAPE, classes=2, cut=1, seed=5),
    }
    return Knowledge(**fields | changes)


def test_an_invertible_linear_encoder_is_inverted_exactly(tmp_path: Path) -> None:
    known = knowledge(encoder=tmp_path / "encoder.safetensors")
    encoder, _ = known.network().split(1)
    layer = list(encoder.modules())[-1]
    assert isinstance(layer, nn.Linear) and known.encoder is not None
    with torch.no_grad():
        # Singular values from .5 to 2: invertible, and far from orthogonal.
        layer.weight.copy_(torch.from_numpy(orthonormal() * np.geomspace(0.5, 2, SIZE, dtype=np.float32)))
    save_weights(encoder, known.encoder)
    x = inputs(20)
    attack = Rmle(SearchOptions(tv=0), 0)
    attack.fit(known)
    guess = attack.guess(encoder(torch.from_numpy(x)).detach().numpy())
    assert guess.shape == x.shape and guess.dtype == np.float32
    assert np.mean((guess - x) ** 2) < 1e-6
    assert attack.report["residual"] < 1e-6


@pytest.mark.parametrize("kind", [Rmle, RmleWithPrior])
def test_a_search_stops_at_its_deadline_and_says_so(tmp_path: Path, kind: type[Rmle]) -> None:
    x = inputs(40)
    known = knowledge(encoder=tmp_path / "encoder.safetensors", inputs=x, augmented=np.zeros(40, bool))
    encoder, _ = known.network().split(1)
    assert known.encoder is not None
    save_weights(encoder, known.encoder)
    attack = kind(kind.options(**{"iterations": 900_000} | ({"prior_steps": 5} if kind is RmleWithPrior else {})), 0)
    attack.fit(known)
    attack.deadline = began = time.monotonic()
    attack.deadline += 0.5
    attack.guess(encoder(torch.from_numpy(x)).detach().numpy())
    assert time.monotonic() - began < 20
    assert re.match(r"stopped after \d+ of 900000 steps", attack.report["stopped"])


def test_a_rank_k_encoder_leaves_the_energy_outside_its_row_space() -> None:
    rows, x = orthonormal()[:6], inputs(12) - 0.5
    # So large an epsilon makes Adam plain gradient descent, whose steps never leave the row space.
    settings = SearchOptions(tv=0, epsilon=1e4, learning_rate=3e3, schedule="constant", iterations=300)
    guess, residual = invert(of(rows), x.reshape(12, -1) @ rows.T, SHAPE, (-4.0, 4.0), settings, 0)
    flat = x.reshape(12, -1)
    outside = flat - flat @ rows.T @ rows
    left = np.square(guess - x).reshape(12, -1).sum(1)
    np.testing.assert_allclose(left, np.square(outside).sum(1), rtol=1e-3)
    assert residual < 1e-6


def test_a_penalty_takes_what_the_encoder_does_not_tell_from_the_prior() -> None:
    rows, x = orthonormal()[:6], inputs(4)
    z, flat = x.reshape(4, -1) @ rows.T, x.reshape(4, -1)
    strength = 0.01
    guess, _ = invert(of(rows), z, SHAPE, (-1.0, 1.0), SearchOptions(tv=0, l2=strength, iterations=1500), 0)
    # mean (Wx - z)^2 + s mean x^2 is ridge regression: x = (W'W/k + s/d)^-1 W'z/k.
    solved = np.linalg.solve(rows.T @ rows / 6 + strength / SIZE * np.eye(SIZE), rows.T @ z.T / 6).T
    np.testing.assert_allclose(guess.reshape(4, -1), solved, atol=2e-3)
    assert np.abs(guess.reshape(4, -1) - flat).max() > 0.05


def test_rows_do_not_depend_on_one_another() -> None:
    encoder, x = of(orthonormal()), inputs(5)
    z = x.reshape(5, -1) @ orthonormal().T
    settings = SearchOptions(iterations=60, tv=0.05)
    together, _ = invert(encoder, z, SHAPE, (0.0, 1.0), settings, 0)
    alone, _ = invert(encoder, z[3:4], SHAPE, (0.0, 1.0), settings, 0)
    np.testing.assert_allclose(together[3:4], alone, atol=1e-5)
    # A loss that were a mean over the batch would have halved these steps' gradients.
    assert np.abs(together[3] - 0.5).max() > 0.1


def test_total_variation_is_the_authors() -> None:
    x = torch.rand(3, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    down, right = x[:, :, 1:] - x[:, :, :-1], x[..., 1:] - x[..., :-1]
    expected = (down**2).sum((1, 2, 3)) / (2 * 4 * 7) + (right**2).sum((1, 2, 3)) / (2 * 5 * 6)
    torch.testing.assert_close(total_variation(x), expected)
    assert total_variation(torch.ones(2, 1, 4, 4)).tolist() == [0, 0]
    assert total_variation(torch.rand(2, 9)).tolist() == [0, 0]


def test_smoothing_smooths_and_the_range_holds() -> None:
    z = np.random.default_rng(0).standard_normal((3, SIZE)).astype(np.float32) * 3
    rough, _ = invert(of(orthonormal()), z, SHAPE, (0.0, 1.0), SearchOptions(tv=0, iterations=100), 0)
    smooth, _ = invert(of(orthonormal()), z, SHAPE, (0.0, 1.0), SearchOptions(tv=10, iterations=100), 0)
    assert rough.min() == 0 and rough.max() == 1
    assert np.square(np.diff(smooth)).mean() < 0.3 * np.square(np.diff(rough)).mean()


def test_a_start_from_noise_is_the_seeds() -> None:
    rows = orthonormal()[:2]
    z = np.zeros((2, 2), np.float32)
    settings = SearchOptions(start="noise", tv=0, iterations=5)
    a, b, c = (invert(of(rows), z, SHAPE, (0.0, 1.0), settings, seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


class _Rounds(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.long().float()


class _Embeds(nn.Module):
    def forward(self, x: Any) -> torch.Tensor:
        return nn.functional.embedding(x, torch.zeros(3, 2))


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (_Rounds(), "no gradient reaches"),
        (_Embeds(), "real-valued"),
        (of(orthonormal()[:3]), r"shape \(3,\), the captured ones \(16,\)"),
    ],
)
def test_a_network_that_cannot_be_searched_is_refused_in_one_line(encoder: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        invert(encoder, np.zeros((2, SIZE), np.float32), SHAPE, (0.0, 1.0), SearchOptions(), 0)
    assert "\n" not in str(error.value)


def test_without_weights_it_says_what_to_grant() -> None:
    with pytest.raises(ValueError, match=r"granted\.encoder"):
        Rmle(SearchOptions(), 0).fit(knowledge())
    assert Rmle.threat.as_json()["knows"] == ["architecture", "weights"]
