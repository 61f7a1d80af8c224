"""The private head: torch's own step where nothing is clipped or added, and each example bounded where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from server.config import ServerConfig
from server.private import PrivateHeadStage
from wireleak.common.config import ConfigError
from wireleak.common.models import ModelConfig, build
from wireleak.common.plan import TrainingPlan
from wireleak.common.wire import decode_tensor, encode_tensor, open_channel
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire.service import OverflowedError
from wireleak.common.wire.split_head_pb2_grpc import SplitHeadStub

RATE, SILENT = 0.1, 1e-12
MODEL = ModelConfig(name="strided28", input_shape=(1, 28, 28), classes=3, cut=2, seed=5)


def stage(seed: int = 0, **changes: Any) -> PrivateHeadStage:
    batch = changes.pop("batch", 6)
    privacy = {"noise_multiplier": SILENT, "max_grad_norm": 1e6} | changes
    return PrivateHeadStage(MODEL, plan(privacy, batch), seed)


def plan(privacy: dict[str, Any], batch: int = 4) -> TrainingPlan:
    return TrainingPlan.model_validate({"learning_rate": RATE, "batch": batch, "privacy": privacy})


def batch(count: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.random((count, 32, 7, 7), dtype=np.float32), draw.integers(0, 3, count)


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in module.state_dict().values()]).double()


def reference() -> nn.Module:
    return build("strided28", (1, 28, 28), 3, 5).split(2)[1]


def own_gradients(activation: np.ndarray, label: np.ndarray) -> dict[str, torch.Tensor]:
    """Oracle: torch.func, one example at a time."""
    head = reference()

    def loss(weights: dict[str, torch.Tensor], one: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return cross_entropy(functional_call(head, weights, (one[None],)), wanted[None])

    weights = {name: value.detach() for name, value in head.named_parameters()}
    found = vmap(grad(loss), (None, 0, 0))(weights, torch.from_numpy(activation), torch.from_numpy(label))
    return cast(dict[str, torch.Tensor], found)


def test_with_nothing_clipped_and_no_noise_it_is_plain_sgd() -> None:
    private, plain = stage(), reference()
    activation, label = batch()
    optimiser = torch.optim.SGD(plain.parameters(), lr=RATE)
    inputs = torch.from_numpy(activation.copy()).requires_grad_()
    loss = cross_entropy(plain(inputs), torch.from_numpy(label))
    loss.backward()
    optimiser.step()
    gradient, mean = private.step(activation, label)
    assert mean == pytest.approx(loss.item(), rel=1e-6)
    assert inputs.grad is not None
    np.testing.assert_allclose(gradient, inputs.grad.numpy(), rtol=1e-4, atol=1e-8)
    torch.testing.assert_close(dict(private.head.state_dict()), dict(plain.state_dict()))


def test_the_step_is_the_sum_of_clipped_gradients_over_the_expected_batch() -> None:
    private, norm = stage(max_grad_norm=0.5, batch=9), 0.5
    activation, label = batch()
    own = own_gradients(activation, label)
    lengths = torch.stack([value.flatten(1).norm(dim=1) for value in own.values()]).norm(dim=0)
    assert lengths.min() > norm
    wanted = {
        name: before - RATE * torch.einsum("n,n...->...", norm / lengths, own[name]) / 9
        for name, before in reference().named_parameters()
    }
    private.step(activation, label)
    torch.testing.assert_close(dict(private.head.named_parameters()), wanted, rtol=1e-4, atol=1e-6)


def test_noise_has_the_standard_deviation_that_the_account_counts_on_with_and_without_examples() -> None:
    for drawn in (6, 0):
        quiet, noisy = stage(max_grad_norm=0.5), stage(max_grad_norm=0.5, noise_multiplier=3.0)
        for one in (quiet, noisy):
            gradient, loss = one.step(*batch(drawn))
            assert gradient.shape == (drawn, 32, 7, 7) and (loss == 0) == (drawn == 0)
        added = (flat(noisy.head) - flat(quiet.head)) / (RATE * 0.5 / 6)
        assert len(added) > 10_000
        assert added.std().item() == pytest.approx(3.0, rel=0.03)


def test_the_seed_repeats_it_and_other_weights_draw_anew(tmp_path: Path) -> None:
    first, again, other = stage(), stage(), stage(seed=1)
    noise = []
    for one in (first, again, other):
        one._plan = plan({"noise_multiplier": 1.0, "max_grad_norm": 1e6}, 6)
        one.reset()
        one.step(*batch(0))
        noise.append(flat(one.head) - flat(reference()))
    assert torch.equal(noise[0], noise[1]) and not torch.equal(noise[0], noise[2])
    first.save(tmp_path / "head.safetensors")
    before = flat(first.head)
    first.load(tmp_path / "head.safetensors")
    first.step(*batch(0))
    assert not torch.allclose(flat(first.head) - before, noise[0], atol=1e-4), "the same noise twice can be subtracted"


def test_a_batch_that_overflows_leaves_no_trace() -> None:
    clean, other = stage(), stage()
    activation, label = batch()
    with pytest.raises(OverflowedError):
        other.step(np.full_like(activation, 3e38), label)
    for each in (clean, other):
        each.step(activation.copy(), label)
    torch.testing.assert_close(flat(clean.head), flat(other.head), rtol=0, atol=0)


def test_a_prediction_between_steps_changes_nothing() -> None:
    one, two = stage(), stage()
    activation, label = batch()
    one.step(activation, label)
    two.predict(activation)
    two.step(activation, label)
    torch.testing.assert_close(one.head.state_dict(), two.head.state_dict(), rtol=0, atol=0)


def test_the_service_tells_that_it_is_private_and_takes_a_step_for_nobody(
    start_head: Any, stub: SplitHeadStub, failure: Any
) -> None:
    private = start_head(plan={"batch": 4, "privacy": {"noise_multiplier": 0.7}})
    nobody = pb.TrainRequest(
        activation=encode_tensor(np.zeros((0, 32, 7, 7), np.float32)), label=encode_tensor(np.zeros(0, np.int64))
    )
    before = flat(private.stage.head)
    with open_channel(f"127.0.0.1:{private.port}") as channel:
        theirs = SplitHeadStub(channel)
        assert theirs.Describe(pb.DescribeRequest()).noise_multiplier == 0.7
        (answer,) = theirs.Train(iter([nobody]))
        assert decode_tensor(answer.activation_gradient).shape == (0, 32, 7, 7)
        code, _ = failure(lambda: list(theirs.Predict(iter([pb.PredictRequest(activation=nobody.activation)]))))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert not torch.equal(before, flat(private.stage.head))
    assert stub.Describe(pb.DescribeRequest()).noise_multiplier == 0


def test_what_cannot_be_trained_privately_is_one_line(settings: dict[str, Any]) -> None:
    mixed = ModelConfig(name="post105", input_shape=(1, 105, 105), classes=3, cut=1, seed=5)
    with pytest.raises(
        ConfigError, match=r"^privacy: layer 1\.2 is BatchNorm2d, .* GroupNorm in its place \(opacus\.v"
    ):
        PrivateHeadStage(mixed, plan({"noise_multiplier": 1.0}), 0)
    for privacy, words in (
        ({"noise_multiplier": 0}, "0 adds no noise, so there is no epsilon; give more than 0"),
        ({"noise_multiplier": 1.0, "max_grad_norm": -1}, "greater than 0"),
    ):
        with pytest.raises(ValidationError, match=words):
            ServerConfig.model_validate(settings | {"plan": {"privacy": privacy}})
    # In federated mode the clients train the head, so it adds no noise of its own.
    shared = settings | {"plan": {"mode": "federated", "privacy": {"noise_multiplier": 1.0}}}
    assert ServerConfig.model_validate(shared).privacy is None
