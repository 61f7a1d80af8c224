"""Transforms of the input: noise on pictures, and words replaced at random, before the encoder computes anything."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chisquare, kstest, laplace, norm
from torch.nn.functional import cross_entropy
from typer.testing import CliRunner

from client.__main__ import app as command
from client.config import HeadConfig
from client.examples import Floats, Labels
from client.transforms.chain import Chain
from client.transforms.randomised.clipping import clipped
from client.transforms.registry import TRANSFORMS, guarantees, make
from server.head import RunningHead
from wireleak.common.config import ConfigError, Plugin
from wireleak.common.head.encoder import predict_split, predict_whole, train_split
from wireleak.common.head.link import connect
from wireleak.common.measures.bounds.laplace import composed
from wireleak.common.models import ModelConfig, build
from wireleak.common.models.training import Training
from wireleak.common.plan import ClientPlan

NOISES = [
    ("input-noise", {"clip": 3.0, "sigma": 2.0}, 2, norm(scale=2.0)),
    ("input-laplace", {"clip": 3.0, "epsilon": 4.0}, 1, laplace(scale=1.5)),
]


def plugin(name: str, **options: Any) -> Plugin:
    return Plugin(name=name, options=options)


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(2))


def words(*shape: int, most: int) -> torch.Tensor:
    return torch.randint(1, most + 1, shape, generator=torch.Generator().manual_seed(2)).float()


@pytest.mark.parametrize(("name", "options", "order", "law"), NOISES)
def test_noise_lies_around_the_clipped_input_and_the_activation_is_left_as_it_is(
    name: str, options: dict[str, Any], order: int, law: Any
) -> None:
    chain, x = Chain([plugin(name, **options)], 0), pictures(2000)
    drawn = (chain.before(x) - clipped(x, 3.0, order)).double().numpy().ravel()
    assert kstest(drawn, law.cdf).pvalue > 1e-3
    assert kstest(drawn * 1.05, law.cdf).pvalue < 1e-3
    activation = torch.randn(5, 4)
    assert torch.equal(chain(activation, x[:5]), activation)


def test_transforms_of_activations_leave_the_input_as_it_is() -> None:
    chain = Chain([plugin("noise", clip=1.0, sigma=1.0), plugin("quantise", bits=2, clip=1.0)], 0)
    x = pictures(3)
    assert chain.before(x) is x


def test_input_and_activation_are_noised_apart_though_they_begin_alike() -> None:
    x, activation = pictures(4), pictures(4)
    chain = Chain([plugin("input-noise", sigma=1.0), plugin("noise", sigma=1.0)], 0)
    assert not torch.allclose(chain.before(x) - x, chain(activation, x) - activation)


@pytest.mark.parametrize(("name", "plain"), [("input-noise", "noise"), ("input-laplace", "laplace")])
def test_the_promise_is_that_of_the_same_noise_on_an_activation(name: str, plain: str) -> None:
    options = {"clip": 3.0} | ({"sigma": 2.0} if plain == "noise" else {"epsilon": 4.0})
    for messages in (1, 9):
        assert make(plugin(name, **options), 0).guarantee(messages) == make(plugin(plain, **options), 0).guarantee(
            messages
        )
    bare = make(plugin(name, **({"sigma": 2.0} if plain == "noise" else {"scale": 2.0})), 0)
    assert bare.guarantee(1) is None and str(bare.refusal()).startswith("no epsilon: unclipped inputs")


def test_the_promise_of_gaussian_noise_meets_balle_and_wang_s_curve() -> None:
    """Oracle: delta(epsilon) of a shift by 2 clip = 6 under sigma 2, mu = 3, at the epsilon that is printed."""
    said = make(plugin("input-noise", clip=3.0, sigma=2.0), 0).guarantee(1)
    epsilon = float(str(said).partition("local (")[2].partition(",")[0])
    delta = norm.cdf(1.5 - epsilon / 3) - math.exp(epsilon) * norm.cdf(-1.5 - epsilon / 3)
    assert delta == pytest.approx(1e-5, rel=0.1)


def test_code_that_copies_the_input_into_the_message_voids_the_promise() -> None:
    steps = [make(plugin("input-noise", clip=1.0, sigma=1.0), 0), make(plugin("covert"), 0)]
    assert guarantees(steps, 1)[0] is None
    assert guarantees(steps[:1], 1)[0] is not None


# Words


def test_words_are_kept_at_their_chance_and_else_become_any_other() -> None:
    count, epsilon = 6, 1.2
    x = words(20_000, 4, most=count)
    sent = Chain([plugin("word-response", epsilon=epsilon, words=count)], 0).before(x)
    assert sent.dtype == torch.float32 and sent.shape == x.shape
    chance = math.exp(epsilon) / (math.exp(epsilon) + count - 1)
    assert binomtest(int((sent == x).sum()), x.numel(), chance).pvalue > 1e-3
    for word in range(1, count + 1):
        others = np.bincount(sent[(x == word) & (sent != x)].long().numpy(), minlength=count + 1)
        assert others[0] == others[word] == 0
        assert chisquare(np.delete(others[1:], word - 1)).pvalue > 1e-3
    kept = (sent == x).double()
    assert abs(np.corrcoef(kept.T.numpy())[np.triu_indices(4, 1)]).max() < 0.03  # each word by itself


@pytest.mark.parametrize("epsilon", [0.5, 3.0])
def test_no_output_is_more_than_e_to_epsilon_times_likelier_for_another_word(epsilon: float) -> None:
    n, count = 60_000, 5
    chain = Chain([plugin("word-response", epsilon=epsilon, words=count)], 0)
    sent = [chain.before(torch.full((n,), word)).long().numpy() for word in (1.0, 2.0)]
    rates = [np.bincount(each, minlength=1 + count)[1:] / n for each in sent]
    assert np.max(np.abs(np.log(rates[0] / rates[1]))) == pytest.approx(epsilon, rel=0.05)


def test_padding_stays_and_many_words_are_many() -> None:
    x = words(400, 30, most=5000)
    x[:, 20:] = 0
    sent = Chain([plugin("word-response", epsilon=2.0, words=5000)], 0).before(x)
    assert (sent[:, 20:] == 0).all() and (sent[:, :20] > 0).all() and sent.max() <= 5000
    assert (sent[:, :20] == x[:, :20]).float().mean() < 0.01


@pytest.mark.parametrize("value", [6.0, 0.5, -1.0, math.nan])
def test_what_is_no_word_number_is_refused_unsent(value: float) -> None:
    chain = Chain([plugin("word-response", epsilon=1.0, words=5)], 0)
    with pytest.raises(ConfigError, match=r"^transforms.word-response: inputs must be word numbers from 0 to 5; set"):
        chain.before(torch.tensor([[1.0, value]]))


def test_the_promise_of_words_is_pure_for_each_word_and_composes() -> None:
    step = make(plugin("word-response", epsilon=2.0, words=5000), 0)
    said = str(step.guarantee(1))
    assert said.startswith(
        "local 2-DP (delta 0) for each word over a message (0.00148 of the words are kept, out of 5000"
    )
    assert "a text of n words has n times that epsilon" in said and "its number of words is not hidden" in said
    many = str(step.guarantee(50))
    assert many.startswith(
        f"local 100-DP (delta 0) and ({composed(2.0, 50, 1e-5):.3g}, 1e-05)-DP for each word over 50"
    )


# Where they fit


@pytest.mark.parametrize(
    ("names", "inputs", "line"),
    [
        (
            ["noise", "input-noise"],
            "numbers",
            "transforms.input-noise: acts on the input, but follows noise; put it first",
        ),
        (
            ["input-noise"],
            "words",
            "transforms.input-noise: acts on inputs of numbers, but these inputs are words; use word-response, or a "
            "transform of activations",
        ),
        (
            ["word-response"],
            "numbers",
            "transforms.word-response: acts on inputs of words, but these inputs are numbers; use input-laplace or "
            "input-noise, or a transform of activations",
        ),
        (["input-noise", "noise"], "numbers", ""),
        (["word-response"], "words", ""),
        (["word-response"], None, ""),
    ],
)
def test_a_transform_that_cannot_work_is_refused_by_one_line(names: list[str], inputs: str | None, line: str) -> None:
    given = {"noise": {"sigma": 1.0}, "input-noise": {"sigma": 1.0}, "word-response": {"epsilon": 1.0, "words": 9}}
    chain = json.dumps([{"name": name, "options": given[name]} for name in names])
    done = CliRunner().invoke(command, ["transforms", chain, *(["--inputs", inputs] if inputs else [])])
    assert (done.exit_code, done.stderr) == ((2, f"{line}\n") if line else (0, ""))


def test_every_transform_of_an_input_names_a_kind_and_works_at_inference() -> None:
    ours = [kind for kind in TRANSFORMS.all().values() if kind.acts_on != "activation"]
    assert {kind.name for kind in ours} >= {"input-noise", "input-laplace", "word-response"}
    assert all(kind.acts_on in ("numbers", "words") and not kind.reads_inputs for kind in ours)


# On the way to the head


def flipped(inputs: torch.Tensor) -> torch.Tensor:
    return 1 - inputs


def test_predictions_are_of_the_changed_inputs(where: HeadConfig, shard: tuple[Floats, Labels]) -> None:
    model = ModelConfig(name="strided28", input_shape=(1, 28, 28), classes=3, cut=2, seed=5)
    encoder, _ = build("strided28", (1, 28, 28), 3, 5).split(2)
    with connect(where, model) as stub:
        got = predict_split(encoder, stub, shard[0], 3, 16, before=flipped)
    want = predict_whole(build("strided28", (1, 28, 28), 3, 5).blocks, 1 - shard[0])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_the_encoder_trains_on_the_changed_inputs_and_its_losses_see_the_true_ones(
    head: RunningHead, where: HeadConfig, shard: tuple[Floats, Labels]
) -> None:
    """Oracle: torch's own autograd on inputs that were changed beforehand."""
    how = Training(ClientPlan(epochs=1, batch=16, learning_rate=0.002), (3, 1))
    inputs, labels = shard
    whole = build("strided28", (1, 28, 28), 3, 5)
    optimiser = torch.optim.Adam(whole.blocks.parameters(), lr=0.002)
    for rows in how.batches(len(inputs)):
        optimiser.zero_grad()
        cross_entropy(whole.blocks(flipped(torch.from_numpy(inputs[rows]))), torch.from_numpy(labels[rows])).backward()
        optimiser.step()
    encoder, _ = build("strided28", (1, 28, 28), 3, 5).split(2)
    seen = []

    def send(activation: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        seen.append(given.numpy())
        return activation

    with connect(where, ModelConfig(name="strided28", input_shape=(1, 28, 28), classes=3, cut=2, seed=5)) as stub:
        train_split(encoder, stub, inputs, labels, how, before=flipped, send=send)
    got = encoder.state_dict() | head.stage.head.state_dict()
    torch.testing.assert_close(got, dict(whole.blocks.state_dict()), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate(seen), np.concatenate([inputs[rows] for rows in how.batches(50)]))
