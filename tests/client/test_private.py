"""Private training: plain SGD where nothing is clipped or added, bounded influence where it is, and what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from client.examples import Floats, Labels
from client.private import train_private
from wireleak.common.config import ConfigError
from wireleak.common.head.encoder import predict_whole
from wireleak.common.models import build
from wireleak.common.models.training import Training
from wireleak.common.plan import ClientPlan, PrivacyConfig

RATE, SILENT = 0.5, 1e-12


def network() -> nn.Sequential:
    return build("strided28", (1, 28, 28), 3, 5).blocks


def how(seed: tuple[int, ...] = (3, 1), **changes: Any) -> Training:
    return Training(ClientPlan(**({"epochs": 1, "batch": 50, "learning_rate": RATE} | changes)), seed)


def privacy(**changes: Any) -> PrivacyConfig:
    return PrivacyConfig.model_validate({"noise_multiplier": SILENT, "max_grad_norm": 1e6} | changes)


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in module.state_dict().values()]).double()


def test_with_nothing_clipped_and_no_noise_it_is_plain_sgd(shard: tuple[Floats, Labels]) -> None:
    """Oracle: torch. A sample of all 50 examples in every step leaves nothing to chance."""
    inputs, labels = shard
    private, plain = network(), network()
    loss, _ = train_private(private, inputs, labels, how(epochs=3), privacy())
    optimiser = torch.optim.SGD(plain.parameters(), lr=RATE)
    losses = []
    for _ in range(3):
        optimiser.zero_grad()
        error = cross_entropy(plain(torch.from_numpy(inputs)), torch.from_numpy(labels))
        error.backward()
        optimiser.step()
        losses.append(error.item())
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)
    torch.testing.assert_close(dict(private.state_dict()), dict(plain.state_dict()), rtol=1e-3, atol=1e-5)


def test_one_example_moves_the_weights_no_further_than_clipping_allows(shard: tuple[Floats, Labels]) -> None:
    inputs, labels = shard
    other = inputs.copy()
    other[7] = 1e3 * np.random.default_rng(0).standard_normal(other[7].shape)
    norm = 0.1

    def moved(**changes: Any) -> float:
        one, two = network(), network()
        train_private(one, inputs, labels, how(), privacy(**changes))
        train_private(two, other, labels, how(), privacy(**changes))
        return float((flat(one) - flat(two)).norm())

    bound = 2 * RATE * norm / len(inputs)
    assert moved(max_grad_norm=norm) <= bound * 1.001
    assert moved(max_grad_norm=1e6) > 2 * bound


def test_noise_has_the_standard_deviation_that_the_guarantee_is_computed_from(shard: tuple[Floats, Labels]) -> None:
    norm, noise, n = 0.5, 3.0, len(shard[0])
    clipped, noisy = network(), network()
    train_private(clipped, *shard, how(), privacy(max_grad_norm=norm))
    train_private(noisy, *shard, how(), privacy(max_grad_norm=norm, noise_multiplier=noise))
    added = (flat(noisy) - flat(clipped)) / (RATE * norm / n)
    assert len(added) > 30_000
    assert added.std().item() == pytest.approx(noise, rel=0.02)
    assert abs(added.mean().item()) < 0.06


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_epsilon_is_opacus_s_and_rounds_compose(shard: tuple[Floats, Labels], optimiser: str) -> None:
    from opacus.accountants import RDPAccountant

    from wireleak.common.measures.bounds.accounting import ORDERS

    settings = privacy(noise_multiplier=0.8, max_grad_norm=1.0, delta=1e-4, optimiser=optimiser)
    loss, spent = train_private(network(), *shard, how(epochs=2, batch=10, learning_rate=1e-3), settings, rounds=3)
    theirs = RDPAccountant()
    theirs.history = [(0.8, 1 / 5, 3 * 2 * 5)]
    assert spent == pytest.approx(theirs.get_epsilon(1e-4, alphas=list(ORDERS)), rel=1e-6)
    assert 0.9 < loss < 1.3


def test_the_seed_repeats_it_and_another_round_draws_anew(shard: tuple[Floats, Labels]) -> None:
    settings = privacy(noise_multiplier=0.5, max_grad_norm=1.0)
    results = []
    for seed in ((3, 1), (3, 1), (3, 2)):
        trained = network()
        train_private(trained, *shard, how(batch=10, seed=seed), settings)
        assert list(trained.state_dict()) == list(network().state_dict())
        assert np.isfinite(predict_whole(trained, shard[0])).all()
        results.append(flat(trained))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_two_clients_of_one_seed_do_not_add_the_same_noise(shard: tuple[Floats, Labels]) -> None:
    """Else the difference of their updates would be free of it."""
    inputs, labels = shard
    added = []
    for shift in (0.0, 1e-3):
        bare, noisy = network(), network()
        train_private(bare, inputs + np.float32(shift), labels, how(), privacy(max_grad_norm=0.5))
        train_private(
            noisy, inputs + np.float32(shift), labels, how(), privacy(max_grad_norm=0.5, noise_multiplier=3.0)
        )
        added.append((flat(noisy) - flat(bare)).numpy())
    assert abs(np.corrcoef(added)[0, 1]) < 0.05


def test_a_step_that_draws_nobody_still_adds_its_noise(shard: tuple[Floats, Labels]) -> None:
    """Four examples at a chance of 1/4: a third of 40 steps draws none."""
    inputs, labels = shard
    trained = network()
    loss, _ = train_private(
        trained, inputs[:4], labels[:4], how(epochs=10, batch=1, learning_rate=1e-3),
        privacy(noise_multiplier=1.0, max_grad_norm=1.0),
    )  # fmt: skip
    assert np.isfinite(loss)
    assert torch.isfinite(flat(trained)).all() and not torch.equal(flat(trained), flat(network()))


def test_batchnorm_is_refused_by_name() -> None:
    mixed = build("post105", (1, 105, 105), 3, 5).blocks
    with pytest.raises(ConfigError, match=r"^privacy: layer 0\.2 is BatchNorm2d, .*; choose a network with GroupNorm"):
        train_private(mixed, np.zeros((2, 1, 105, 105), np.float32), np.zeros(2, np.int64), how(), privacy())


def test_the_posts_network_with_groupnorm_trains() -> None:
    draw = np.random.default_rng(0)
    inputs, labels = draw.random((6, 1, 105, 105), dtype=np.float32), draw.integers(0, 3, 6)
    loss, _ = train_private(
        build("post105-gn", (1, 105, 105), 3, 5).blocks, inputs, labels, how(batch=3), privacy(noise_multiplier=1.0)
    )
    assert np.isfinite(loss)
