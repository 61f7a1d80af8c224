"""Gradient reversal (acceptance test 9) and multidetasking, their gradients against torch.autograd."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from client.config import HeadConfig
from client.examples import Floats, Labels
from client.transforms.chain import Chain
from client.transforms.registry import Batch, Scene, make
from client.transforms.trained.multidetasking import others
from client.transforms.trained.reversal import GradientReversal, scheduled
from wireleak.common.config import ConfigError, Plugin
from wireleak.common.head.encoder import train_split
from wireleak.common.head.link import connect
from wireleak.common.models import ModelConfig, build
from wireleak.common.models.training import Training
from wireleak.common.plan import ClientPlan

SCENE = Scene((6,), (5,), {"z": 3, "one": 1}, 0.1)


def one(name: str, **options: Any) -> Any:
    transform = make(Plugin(name=name, options={"attribute": "z", "hidden": 7} | options), seed=4)
    return transform, transform.prepare(SCENE)


def scene(values: int = 3) -> tuple[nn.Module, Batch]:
    torch.manual_seed(0)
    batch = Batch(torch.randn(16, 6), torch.randint(0, 2, (16,)), {"z": torch.randint(0, values, (16,))}, 0.25)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh()), batch


def gradients(module: nn.Module) -> list[torch.Tensor]:
    found = []
    for parameter in module.parameters():
        assert parameter.grad is not None
        found.append(parameter.grad.clone())
    return found


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize(("adversaries", "steps"), [(1, 1), (3, 1), (1, 4)])
def test_encoder_gets_minus_strength_times_the_plain_gradient_and_the_adversary_its_own(
    strength: float, adversaries: int, steps: int
) -> None:
    """Oracle: autograd through encoder and adversary without any reversal, and plain SGD steps of the adversary."""
    encoder, batch = scene()
    transform, module = one(
        "gradient-reversal", strength=strength, adversaries=adversaries, steps=steps, optimiser="sgd", learning_rate=0.3
    )
    plain_encoder, plain = copy.deepcopy(encoder), copy.deepcopy(module)
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.3, momentum=0.9)
    for _ in range(steps):
        optimiser.zero_grad()
        plain_encoder.zero_grad()
        hidden = plain_encoder(batch.inputs)
        losses = [cross_entropy(head(hidden), batch.private["z"]) for head in plain]
        torch.stack(losses).sum().backward()
        optimiser.step()

    transform.loss(encoder(batch.inputs), batch).backward()
    assert any(gradient.abs().max() > 1e-4 for gradient in gradients(plain_encoder))
    for got, want in zip(gradients(encoder), gradients(plain_encoder), strict=True):
        assert torch.allclose(got, -strength * want, rtol=1e-5, atol=1e-8)
    for got, want in zip(module.parameters(), plain.parameters(), strict=True):
        assert torch.equal(got.grad, want.grad) and torch.equal(got, want)
    assert not torch.equal(module[0][1].weight, module[-1][1].weight) or adversaries == 1


def test_loss_is_minus_strength_times_the_adversary_s() -> None:
    encoder, batch = scene()
    transform, module = one("gradient-reversal", strength=2.0)
    want = cross_entropy(module[0](encoder(batch.inputs)), batch.private["z"])
    assert transform.loss(encoder(batch.inputs), batch).item() == pytest.approx(-2 * want.item())


def test_forward_is_the_identity() -> None:
    x = torch.randn(4, 2, 3)
    assert torch.equal(GradientReversal(2.0)(x), x)
    assert torch.equal(one("gradient-reversal")[0](x, x), x) and torch.equal(one("multidetasking")[0](x, x), x)


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_impossible_strength_is_refused_by_the_layer(strength: float) -> None:
    with pytest.raises(ValueError, match="strength"):
        GradientReversal(strength)


def test_ganin_s_schedule_rises_from_0_to_lambda() -> None:
    """Their formula at p = .25: 2 / (1 + exp(-2.5)) - 1 = tanh(1.25)."""
    assert scheduled(3.0, "ganin", 0.0) == 0
    assert scheduled(3.0, "ganin", 0.25) == pytest.approx(3 * math.tanh(1.25))
    assert scheduled(3.0, "ganin", 1.0) == pytest.approx(3, rel=1e-3)
    assert scheduled(3.0, "constant", 0.0) == 3
    encoder, batch = scene()
    losses = [
        one("gradient-reversal", schedule=schedule)[0].loss(encoder(batch.inputs), batch).item()
        for schedule in ("ganin", "constant")
    ]
    assert losses[0] == pytest.approx(math.tanh(1.25) * losses[1])


def test_strength_0_reproduces_the_baseline_bit_for_bit_while_the_adversary_learns(split_training: Any) -> None:
    """With dropout in the encoder, so that a draw too many would show."""
    baseline = split_training(None, dropout=0.3)
    for name, options in (("gradient-reversal", {"strength": 0.0}), ("multidetasking", {"weight": 0.0})):
        got = split_training(name, dropout=0.3, attribute="secret", hidden=16, **options)
        for module in ("encoder", "head"):
            pairs = zip(getattr(got, module).parameters(), getattr(baseline, module).parameters(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)
        assert got.transform.told()["adversary-accuracy"] > 0.65


@pytest.mark.parametrize("values", [2, 3])
@pytest.mark.parametrize("form", ["flipped", "minimax"])
def test_multidetasking_s_gradient_is_autograd_s_against_the_adversary_that_has_just_stepped(
    form: str, values: int
) -> None:
    encoder, batch = scene(values)
    transform = make(Plugin(name="multidetasking", options={"attribute": "z", "form": form, "weight": 2.0}), seed=0)
    module = transform.prepare(Scene((6,), (5,), {"z": values}, 0.1))
    assert isinstance(module, nn.ModuleList)
    plain_encoder, plain, z = copy.deepcopy(encoder), copy.deepcopy(module), batch.private["z"]
    optimiser = torch.optim.Adam(plain.parameters(), lr=0.1)
    cross_entropy(plain[0](plain_encoder(batch.inputs).detach()), z).backward()
    optimiser.step()
    nats = -plain[0](plain_encoder(batch.inputs)).log_softmax(1)
    wrong = nats.sum(1) - nats[range(16), z]
    want = 2 * (wrong / (values - 1) if form == "flipped" else -nats[range(16), z]).mean()
    want.backward()

    loss = transform.loss(encoder(batch.inputs), batch)
    assert loss is not None
    before = gradients(module)
    loss.backward()
    assert loss.item() == pytest.approx(want.item(), rel=1e-5)
    torch.testing.assert_close(gradients(encoder), gradients(plain_encoder))
    torch.testing.assert_close(dict(module.state_dict()), dict(plain.state_dict()))
    torch.testing.assert_close(gradients(module), before, rtol=0, atol=0)


def test_with_two_values_the_other_label_is_the_flipped_one() -> None:
    """Oracle: the authors' BCE(D(r), 1 - z) on the difference of two logits."""
    torch.manual_seed(0)
    logits, z = torch.randn(9, 2), torch.randint(0, 2, (9,))
    want = binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], 1 - z.float())
    assert cross_entropy(logits, others(z, 2)).item() == pytest.approx(want.item(), rel=1e-6)
    assert others(torch.tensor([1]), 3).tolist() == [[0.5, 0, 0.5]]


@pytest.mark.parametrize(
    ("name", "off", "on"),
    [
        ("gradient-reversal", {"strength": 0.0}, {"strength": 1.0}),
        ("gradient-reversal", {"strength": 0.0}, {"strength": 2.0, "schedule": "ganin", "adversaries": 2}),
        ("multidetasking", {"weight": 0.0}, {"weight": 1.0, "form": "flipped"}),
        ("multidetasking", {"weight": 0.0}, {"weight": 1.0, "form": "minimax"}),
    ],
)
def test_training_hides_the_secret_from_both_attackers_and_keeps_the_task(
    split_training: Any, name: str, off: dict[str, Any], on: dict[str, Any]
) -> None:
    plain, defended = (
        split_training(name, epochs=16, attribute="secret", hidden=32, learning_rate=0.03, **options)
        for options in (off, on)
    )
    assert plain.transform.told()["adversary-accuracy"] > defended.transform.told()["adversary-accuracy"] + 0.1
    # A fresh attacker finds much of what the adversary in the loop has lost.
    assert plain.fresh_attacker("secret") > defended.fresh_attacker("secret") + 0.02
    assert defended.accuracy() > 0.9


def test_adversaries_go_on_where_the_last_round_left_them(tmp_path: Path) -> None:
    encoder, batch = scene()
    configs = [Plugin(name="gradient-reversal", options={"attribute": "z"})]
    first, second = Chain(configs, 0), Chain(configs, 0)
    first.prepare(SCENE, None)
    for _ in range(3):
        first.loss(encoder(batch.inputs), batch)
    first.keep(tmp_path / "kept")
    second.prepare(SCENE, tmp_path / "kept")
    one_loss, other_loss = first.loss(encoder(batch.inputs), batch), second.loss(encoder(batch.inputs), batch)
    assert one_loss is not None and other_loss is not None and one_loss.item() == other_loss.item()
    assert first.private == ["z"]


def test_an_attribute_of_one_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^transforms.multidetasking.attribute: one has one value"):
        one("multidetasking", attribute="one")


def test_all_that_train_do_so_at_once_against_a_real_head(
    where: HeadConfig, shard: tuple[Floats, Labels], tmp_path: Path
) -> None:
    names = {
        "gradient-reversal": {"attribute": "z"}, "multidetasking": {"attribute": "z"}, "adversarial-generation": {},
        "declustering": {"attributes": ["z"]}, "nopeek": {}, "bottleneck": {},
    }  # fmt: skip
    chain = Chain([Plugin(name=name, options=options) for name, options in names.items()], 0)
    network = build("strided28", (1, 28, 28), 3, 5)
    encoder, _ = network.split(2)
    chain.prepare(Scene((1, 28, 28), network.activation_shape(2), {"z": 2}, 0.002), None)
    inputs, labels = shard

    def loss(activation: torch.Tensor, rows: Any, before: int) -> torch.Tensor | None:
        x, y = torch.from_numpy(inputs[rows]), torch.from_numpy(labels[rows])
        return chain.loss(activation, Batch(x, y, {"z": y % 2}, 0.5))

    model = ModelConfig(name="strided28", input_shape=(1, 28, 28), classes=3, cut=2, seed=5)
    with connect(where, model) as stub:
        assert math.isfinite(
            train_split(
                encoder,
                stub,
                inputs,
                labels,
                Training(ClientPlan(epochs=1, batch=16, learning_rate=0.002), (0,)),
                send=chain,
                loss=loss,
            )
        )
    chain.keep(tmp_path / "kept")
    assert sorted(path.name[:1] for path in (tmp_path / "kept").iterdir()) == ["0", "1", "2"]
    told = {step.name: step.told() for step in chain.steps}
    assert {name: set(figures) for name, figures in told.items()} == {
        "gradient-reversal": {"adversary-accuracy"}, "multidetasking": {"adversary-accuracy"}, "declustering": set(),
        "adversarial-generation": {"decoder-loss", "blind-loss"}, "nopeek": {"distance-correlation"},
        "bottleneck": {"kl-nats"},
    }  # fmt: skip
    assert len(chain.told()) == 6 and all(math.isfinite(value) and value > 0 for value in chain.told().values())
