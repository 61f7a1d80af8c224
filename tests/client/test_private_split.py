"""Private split training against a real head: the whole network's DP-SGD, on the two sides of a wire."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from client.config import ClientConfig, HeadConfig
from client.examples import Floats, Labels
from client.private_split import train_split_private
from client.transforms.registry import TRANSFORMS, Batch, Changes, Transform
from client.transforms.soundness import check_private
from wireleak.common.config import ConfigError
from wireleak.common.head.link import HeadError, connect
from wireleak.common.models import ModelConfig, Network, build
from wireleak.common.models.private import PrivateSteps
from wireleak.common.models.training import Training
from wireleak.common.plan import ClientPlan, PrivacyConfig
from wireleak.common.wire import open_channel
from wireleak.common.wire.split_head_pb2_grpc import SplitHeadStub

OURS = (
    *("noise", "laplace", "metric-privacy", "dropout", "quantise", "requantise", "covert", "bottleneck"),
    *("gradient-reversal", "multidetasking", "adversarial-generation", "declustering", "nopeek"),
)
RATE, SILENT = 0.1, 1e-12
MODEL = ModelConfig(name="strided28", input_shape=(1, 28, 28), classes=3, cut=2, seed=5)


def network() -> Network:
    return build("strided28", (1, 28, 28), 3, 5)


def how(seed: tuple[int, ...] = (3, 1), **changes: Any) -> Training:
    return Training(ClientPlan(**({"epochs": 1, "batch": 50, "learning_rate": RATE} | changes)), seed)


def privacy(**changes: Any) -> PrivacyConfig:
    return PrivacyConfig.model_validate({"noise_multiplier": SILENT, "max_grad_norm": 1e6} | changes)


@pytest.fixture
def train(start_head: Any, where: HeadConfig, shard: tuple[Floats, Labels]) -> Any:
    """Train against a new private head; returns both stages' weights, the loss and epsilon."""

    def run(
        settings: PrivacyConfig, recipe: Training = how(), data: tuple[Floats, Labels] | None = None, **options: Any
    ) -> Any:
        plan = recipe.plan.model_dump() | {"mode": "split", "privacy": settings.model_dump()}
        head = start_head(plan=plan)
        encoder, _ = network().split(2)
        there = where.model_copy(update={"address": f"127.0.0.1:{head.port}"})
        with connect(there, MODEL, settings.noise_multiplier) as stub:
            loss, spent = train_split_private(encoder, stub, *(data or shard), recipe, settings, **options)
        return encoder.state_dict() | head.stage.head.state_dict(), loss, spent

    return run


def own_gradients(inputs: np.ndarray, labels: np.ndarray) -> dict[str, Tensor]:
    """Oracle: torch.func through the uncut network, one example at a time."""
    whole = network().blocks

    def loss(weights: dict[str, Tensor], one: Tensor, wanted: Tensor) -> Tensor:
        return cross_entropy(functional_call(whole, weights, (one[None],)), wanted[None])

    weights = {name: value.detach() for name, value in whole.named_parameters()}
    found = vmap(grad(loss), (None, 0, 0))(weights, torch.from_numpy(inputs), torch.from_numpy(labels))
    return cast(dict[str, Tensor], found)


def stages(weights: Any) -> tuple[Tensor, Tensor]:
    """Encoder's and head's weights, flat."""
    names = set(network().split(2)[0].state_dict())
    parts = [[value.flatten() for name, value in weights.items() if (name in names) == want] for want in (True, False)]
    return torch.cat(parts[0]).double(), torch.cat(parts[1]).double()


def test_with_nothing_clipped_and_no_noise_it_is_plain_sgd_of_the_whole_network(
    train: Any, shard: tuple[Floats, Labels]
) -> None:
    """A sample of all 50 examples in every step leaves nothing to chance."""
    inputs, labels = shard
    plain = network().blocks
    optimiser = torch.optim.SGD(plain.parameters(), lr=RATE)
    losses = []
    for _ in range(3):
        optimiser.zero_grad()
        error = cross_entropy(plain(torch.from_numpy(inputs)), torch.from_numpy(labels))
        error.backward()
        optimiser.step()
        losses.append(error.item())
    got, loss, _ = train(privacy(), how(epochs=3))
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)
    torch.testing.assert_close(got, dict(plain.state_dict()), rtol=1e-4, atol=1e-6)


def test_the_encoder_trains_on_what_transforms_of_the_input_make_of_it(
    train: Any, shard: tuple[Floats, Labels]
) -> None:
    inputs, labels = shard
    got, loss, spent = train(privacy(), how(epochs=2), before=lambda given: 1 - given)
    want = train(privacy(), how(epochs=2), (1 - inputs, labels))
    assert (loss, spent) == pytest.approx(want[1:], rel=1e-5)
    torch.testing.assert_close(got, want[0], rtol=1e-4, atol=1e-6)
    assert loss != pytest.approx(train(privacy(), how(epochs=2))[1], rel=1e-3)


def test_each_stage_clips_each_example_s_own_gradient(train: Any, shard: tuple[Floats, Labels]) -> None:
    norm, own, before = 0.3, own_gradients(*shard), dict(network().blocks.named_parameters())
    inside = set(network().split(2)[0].state_dict())
    wanted: dict[str, Tensor] = {}
    for names in (inside, set(own) - inside):
        lengths = torch.stack([own[name].flatten(1).norm(dim=1) for name in names]).norm(dim=0)
        assert lengths.max() > norm
        factor = (norm / lengths).clamp(max=1)
        wanted |= {n: before[n] - RATE * torch.einsum("n,n...->...", factor, own[n]) / 50 for n in names}
    got, _, _ = train(privacy(max_grad_norm=norm))
    torch.testing.assert_close(got, {name: wanted[name].detach() for name in got}, rtol=1e-4, atol=1e-6)


def test_the_encoder_s_gradients_of_examples_are_those_of_the_whole_network(shard: tuple[Floats, Labels]) -> None:
    inputs, labels = torch.from_numpy(shard[0]), torch.from_numpy(shard[1])
    encoder, head = network().split(2)
    steps = PrivateSteps(encoder, privacy(), RATE, 50, torch.Generator())
    activation = steps.forward(inputs)
    received = activation.detach().requires_grad_()
    cross_entropy(head(received), labels).backward()
    assert received.grad is not None
    steps.backward(activation, received.grad * len(inputs))
    own = own_gradients(*shard)
    for (name, _), found in zip(encoder.named_parameters(), steps.gradients(), strict=True):
        torch.testing.assert_close(found, own[name], rtol=1e-3, atol=1e-5)


def test_one_example_moves_neither_stage_further_than_clipping_allows(train: Any, shard: tuple[Floats, Labels]) -> None:
    inputs, labels = shard
    other = inputs.copy()
    other[7] = 30 * np.random.default_rng(0).standard_normal(other[7].shape)
    for norm, within in ((0.05, True), (1e6, False)):
        one, two = (stages(train(privacy(max_grad_norm=norm), data=data)[0]) for data in (shard, (other, labels)))
        bound = 2 * RATE * 0.05 / 50 * 1.01
        assert all((float((a - b).norm()) <= bound) == within for a, b in zip(one, two, strict=True))


def test_both_stages_get_noise_of_the_size_that_is_accounted_and_not_the_same(train: Any) -> None:
    quiet, noisy = (stages(train(privacy(max_grad_norm=0.5, noise_multiplier=s))[0]) for s in (SILENT, 3.0))
    added = [(b - a) / (RATE * 0.5 / 50) for a, b in zip(quiet, noisy, strict=True)]
    for one in added:
        assert one.std().item() == pytest.approx(3.0, rel=0.05) and abs(one.mean().item()) < 0.2
    count = min(map(len, added))
    assert abs(np.corrcoef(added[0][:count], added[1][:count])[0, 1]) < 0.1


def test_epsilon_is_opacus_s_of_one_mechanism_with_noise_over_root_two(train: Any) -> None:
    from opacus.accountants import RDPAccountant

    from wireleak.common.measures.bounds.accounting import ORDERS

    settings = privacy(noise_multiplier=1.1, max_grad_norm=1.0, delta=1e-4, optimiser="adam")
    _, loss, spent = train(settings, how(epochs=2, batch=10, learning_rate=1e-3), rounds=3)
    theirs = RDPAccountant()
    theirs.history = [(1.1 / 2**0.5, 1 / 5, 3 * 2 * 5)]
    assert spent == pytest.approx(theirs.get_epsilon(1e-4, alphas=list(ORDERS)), rel=1e-6)
    assert 0.9 < loss < 1.3


def test_a_step_that_draws_nobody_is_noise_at_both_stages(
    train: Any, shard: tuple[Floats, Labels], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.private_split._samples", lambda *_: iter([np.array([], np.int64)] * 2))
    got, loss, _ = train(privacy(noise_multiplier=2.0, max_grad_norm=1.0), how(batch=10))
    assert loss == 0
    for moved, start in zip(stages(got), stages(network().blocks.state_dict()), strict=True):
        # Two steps: their variances add up.
        assert ((moved - start) / (RATE / 10)).std().item() == pytest.approx(2.0 * 2**0.5, rel=0.05)


def test_samples_are_poisson_and_rounds_and_shards_draw_their_own(train: Any, shard: tuple[Floats, Labels]) -> None:
    inputs, labels = shard
    sizes: list[int] = []

    def see(drawn: np.ndarray, gradient: np.ndarray) -> None:
        assert gradient.shape == (len(drawn), 32, 7, 7)
        sizes.append(len(drawn))

    settings = privacy(noise_multiplier=1.0, max_grad_norm=1.0)
    runs = []
    for seed, data in (((3, 1), shard), ((3, 1), shard), ((3, 2), shard), ((3, 1), (inputs, (labels + 1) % 3))):
        recipe = how(epochs=4, batch=10, learning_rate=1e-3, seed=seed)
        runs.append(torch.cat(stages(train(settings, recipe, data, see=see)[0])))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2]) and not torch.equal(runs[0], runs[3])
    # 80 draws of Binomial(50, 1/5), two thirds of them repeated or alike: mean 10, variance 8.
    assert np.mean(sizes) == pytest.approx(10, abs=1.5) and 3 < np.var(sizes) < 16


class Nothing(BaseModel):
    pass


class Shrink(Transform):
    """A loss of one example at a time: half its squared length."""

    name, options, changes = "shrink", Nothing, Changes("-")

    def loss(self, activation: Tensor, batch: Batch) -> Tensor:
        return activation.flatten(1).square().sum(1).mean() / 2


class Paired(Shrink):
    name, batchwise = "paired", True


class Adversarial(Shrink):
    name = "adversarial"

    def prepare(self, scene: Any) -> nn.Module:
        return nn.Linear(1, 1)


def test_a_loss_of_single_examples_is_clipped_together_with_the_task_s(
    train: Any, shard: tuple[Floats, Labels]
) -> None:
    inputs, labels = shard
    whole = network()
    encoder, head = whole.split(2)
    optimiser = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=RATE)
    activation = encoder(torch.from_numpy(inputs))
    own = activation.flatten(1).square().sum(1).mean() / 2
    (own + cross_entropy(head(activation), torch.from_numpy(labels))).backward()
    optimiser.step()
    step = Shrink(Nothing(), 0)

    def loss(activation: Tensor, rows: np.ndarray, before: int) -> Tensor:
        assert before == 0 and len(rows) == 50
        return step.loss(activation, Batch(torch.from_numpy(inputs[rows]), torch.from_numpy(labels[rows]), {}, 0.0))

    got, _, _ = train(privacy(), loss=loss)
    torch.testing.assert_close(got, encoder.state_dict() | head.state_dict(), rtol=1e-4, atol=1e-6)


def test_transforms_under_which_nothing_would_be_guaranteed_are_refused() -> None:
    check_private([Shrink(Nothing(), 0)])
    with pytest.raises(
        ConfigError, match=r"^transforms\.paired: one example's loss depends on other examples .* drop it or"
    ):
        check_private([Shrink(Nothing(), 0), Paired(Nothing(), 0)])
    with pytest.raises(
        ConfigError, match=r"^transforms\.adversarial: trains a network of its own on private .* without"
    ):
        check_private([Adversarial(Nothing(), 0)])


def test_of_ours_those_with_adversaries_or_losses_of_whole_batches_are_refused() -> None:
    refused = set()
    for name, kind in TRANSFORMS.all().items():
        try:
            check_private([object.__new__(kind)])
        except ConfigError:
            refused.add(name)
    adversaries = {"gradient-reversal", "multidetasking", "adversarial-generation"}
    assert refused & set(OURS) == adversaries | {"declustering", "nopeek"}


def test_the_command_that_a_study_asks_refuses_them() -> None:
    chain = json.dumps([{"name": "noise", "options": {"sigma": 1}}, {"name": "nopeek"}])
    command = [sys.executable, "-m", "client", "transforms", chain, "--private"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "drop it or privacy" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_head_without_noise_is_refused_before_any_data(where: HeadConfig, shard: tuple[Floats, Labels]) -> None:
    with (
        pytest.raises(HeadError, match=r"privacy: the head trains with noise multiplier 0, this device needs 0\.7"),
        connect(where, MODEL, 0.7),
    ):
        pytest.fail("connected")


def test_batchnorm_and_lstm_are_refused_by_name_with_their_replacement() -> None:
    for name, shape, cut, words in (
        ("post105", (1, 105, 105), 1, r"layer 0\.2 is BatchNorm2d, .* GroupNorm in its place \(opacus\.validators"),
        ("lstm", (12,), 2, r"layer 1\.1\.cell is LSTM, .* DPLSTM in its place \(opacus\.validators"),
    ):
        encoder, _ = build(name, shape, 3, 0).split(cut)
        inputs = np.zeros((2, *shape), np.float32)
        with open_channel("127.0.0.1:1") as channel, pytest.raises(ConfigError, match=rf"^privacy: {words}"):
            train_split_private(encoder, SplitHeadStub(channel), inputs, np.zeros(2, np.int64), how(), privacy())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"privacy": {"noise_multiplier": 0}},
            "0 adds no noise, so there is no epsilon; give more than 0",
        ),
        ({"privacy": {"noise_multiplier": -1}}, "-1 adds no noise"),
        ({"privacy": {"noise_multiplier": 1}, "objective": "autoencoder"}, "privacy: an autoencoder trains without"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    content = {
        "model": MODEL.model_dump(), "train": "/t", "evaluation": "/e", "plan": {"mode": "split"} | changes,
        "head": {"address": "127.0.0.1:1"},
    }  # fmt: skip
    with pytest.raises(ValidationError, match=words):
        ClientConfig.model_validate(content)
