"""A malicious participant beside the honest client's own code: the same messages, the same update where alpha is 0."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from adversary.participant.app import app as participant
from client.app import app as client
from wireleak.common.models import build

MODEL = {"name": "strided28", "input_shape": [1, 28, 28], "classes": 3, "cut": 1, "seed": 5}
HEAD = "multi-task-head.safetensors"


def pictures(n: Any, seed: Any) -> Any:
    """Pictures with random labels, of which half are brighter."""
    draw = np.random.default_rng(seed)
    bright, labels = np.arange(n) % 2, draw.integers(0, 3, n)
    x = draw.random((n, 1, 28, 28), dtype=np.float32) * 0.5 + 0.5 * bright[:, None, None, None]
    return x.astype(np.float32), labels, bright


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The files of one client: its own examples, an attacker's surrogates, and a folder that lasts."""
    for name, seed in (("train", 1), ("evaluation", 2)):
        x, y, _ = pictures(40, seed)
        np.savez(tmp_path / f"{name}.npz", x=x, y=y)
    x, y, bright = pictures(40, 3)
    np.savez(tmp_path / "surrogate.npz", x=x, y=y, **{"attribute:bright": bright})
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.fixture
def ask(here: Path) -> Any:
    """Send a message to a ClientApp, as a SuperNode does; the state that came back, and the metrics."""

    def send(app: Any, kind: Any = "train", weights: Any = None, at: Any = 4, plan: Any = (), **changes: Any) -> Any:
        plan = {"mode": "federated", "epochs": 2, "batch": 16, "learning_rate": 0.01, "optimiser": "sgd"} | dict(plan)
        settings = {
            "model": MODEL, "train": str(here / "train.npz"), "evaluation": str(here / "evaluation.npz"),
            "plan": plan, "seed": 9,
        } | changes  # fmt: skip
        if app is participant:
            own = {"strategy": {"name": "honest"}, "surrogate": str(here / "surrogate.npz"), "out": str(here / "out")}
            settings = own | settings
        path = here / "config.json"
        path.write_text(json.dumps(settings))
        if weights is None:
            weights = build("strided28", (1, 28, 28), 3, 5).blocks.state_dict()
        records = RecordDict({"arrays": ArrayRecord(weights), "config": ConfigRecord({"server-round": at})})
        context = Context(1, 1, {"config": str(path)}, RecordDict(), {})
        reply = app(Message(records, 1, kind), context).content
        state = reply["arrays"].to_torch_state_dict() if kind == "train" else None
        return state, dict(reply["metrics"])

    return send


def active(alpha: Any, **options: Any) -> Any:
    return {"strategy": {"name": "multi-task", "options": {"attribute": "bright", "alpha": alpha} | options}}


def assert_same(one: Any, other: Any) -> None:
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("strategy", [{}, active(0)])
def test_honest_and_alpha_0_send_the_client_s_own_update_bit_for_bit(ask: Any, strategy: Any, optimiser: str) -> None:
    wanted, numbers = ask(client, plan={"optimiser": optimiser})
    got, reported = ask(participant, plan={"optimiser": optimiser}, **strategy)
    assert_same(got, wanted)
    assert reported == numbers


@pytest.mark.parametrize("strategy", [{}, active(0)])
def test_dropout_is_drawn_as_the_client_draws_it(ask: Any, here: Path, strategy: Any) -> None:
    x, parity = np.random.default_rng(0).integers(1, 100, (40, 8)).astype(np.float32), np.arange(40) % 2
    arrays: Any = {"x": x, "y": parity, "attribute:bright": parity}
    for name in ("train", "surrogate"):
        np.savez(here / f"{name}.npz", **arrays)
    model = {"name": "deep-averaging", "input_shape": [8], "classes": 2, "cut": 1, "seed": 5}
    weights = build("deep-averaging", (8,), 2, 5).blocks.state_dict()
    wanted, _ = ask(client, weights=weights, model=model)
    torch.rand(7)
    got, _ = ask(participant, weights=weights, model=model, **strategy)
    assert_same(got, wanted)


def test_a_small_alpha_sends_another_update(ask: Any) -> None:
    honest, joint = ask(client)[0], ask(participant, **active(1e-3))[0]
    assert not all(torch.equal(honest[name], joint[name]) for name in honest)


@pytest.mark.parametrize("strategy", [{}, active(0.7)])
def test_evaluation_answers_what_an_honest_client_does(ask: Any, strategy: Any) -> None:
    wanted, got = ask(client, "evaluate")[1], ask(participant, "evaluate", **strategy)[1]
    assert got == pytest.approx(wanted, rel=1e-6)


def test_only_this_round_s_part_of_a_stream_is_trained_on(ask: Any, here: Path) -> None:
    x, y, _ = pictures(40, 1)
    np.savez(here / "train.npz", x=x, y=y, round=np.repeat([4, 5], 20))
    wanted, numbers = ask(client)
    got, reported = ask(participant)
    assert_same(got, wanted)
    assert reported == numbers and reported["num-examples"] == 20
    with pytest.raises(ValueError, match=r"train: .* holds no example of round 6"):
        ask(participant, at=6)


def without_head(blocks: torch.nn.Sequential) -> torch.nn.Sequential:
    """The network up to its last layer."""
    last = blocks[-1]
    assert isinstance(last, torch.nn.Sequential)
    return torch.nn.Sequential(*list(blocks)[:-1], *list(last)[:-1])


@pytest.mark.parametrize("alpha", [0.3, 0.7, 1.0])
def test_one_step_sends_the_gradient_of_the_joint_loss(ask: Any, here: Path, alpha: float) -> None:
    """Oracle: torch.autograd, on a head that lies there from the round before."""
    torch.manual_seed(3)
    weight, bias = torch.randn(2, 128) / 10, torch.randn(2) / 10
    save_file({"weight": weight, "bias": bias}, here / "out" / HEAD)
    blocks = build("strided28", (1, 28, 28), 3, 5).blocks
    extractor = without_head(blocks)
    own, labels, _ = map(torch.as_tensor, pictures(40, 1))
    others, _, bright = map(torch.as_tensor, pictures(40, 3))
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    task = cross_entropy(blocks(own), labels)
    told = cross_entropy(extractor(others) @ weight.T + bias, bright)
    loss = (1 - alpha) * task + alpha * told
    gradients = torch.autograd.grad(loss, [*blocks.parameters(), weight, bias])

    got, reported = ask(participant, plan={"epochs": 1, "batch": 40, "learning_rate": 0.5}, **active(alpha))
    wanted = [p - 0.5 * g for p, g in zip([*blocks.parameters(), weight, bias], gradients, strict=True)]
    kept = load_file(here / "out" / HEAD)
    sent = [got[name] for name, _ in blocks.named_parameters()] + [kept["weight"], kept["bias"]]
    for one, other in zip(sent, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert reported["train-loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_a_boost_lengthens_the_update_that_is_sent(ask: Any, here: Path) -> None:
    blocks, sent = build("strided28", (1, 28, 28), 3, 5).blocks, {}
    for boost in (1, 4):
        (here / "out" / HEAD).unlink(missing_ok=True)
        sent[boost] = ask(participant, **active(0.7, boost=boost))[0]
    for name, start in blocks.named_parameters():
        torch.testing.assert_close(sent[4][name] - start, 4 * (sent[1][name] - start), rtol=1e-4, atol=1e-6)


def test_the_head_stays_here_and_learns_over_rounds(ask: Any, here: Path) -> None:
    state, losses = None, []
    for at in range(1, 5):
        state, reported = ask(participant, weights=state, at=at, plan={"learning_rate": 0.1}, **active(1))
        losses.append(reported["train-loss"])
        assert set(state) == set(build("strided28", (1, 28, 28), 3, 5).blocks.state_dict())
    assert losses[-1] < 0.5 * losses[0]
    blocks = build("strided28", (1, 28, 28), 3, 5).blocks
    assert state is not None
    blocks.load_state_dict(state)
    x, _, bright = pictures(60, 8)
    kept = load_file(here / "out" / HEAD)
    with torch.inference_mode():
        told = without_head(blocks)(torch.from_numpy(x)) @ kept["weight"].T + kept["bias"]
    assert (told.argmax(1).numpy() == bright).mean() > 0.95


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": {"name": "nobody"}}, r"^strategy.name: no strategy called 'nobody'; choose one of .*honest"),
        (active(2), r"^strategy.options.alpha: Input should be less than or equal to 1"),
        ({"strategy": {"name": "multi-task"}}, r"^strategy.options.attribute: is missing"),
        (active(0.5, attribute="hair"), r"^surrogate: .* holds no array 'attribute:hair'; it has x, y"),
        (active(0.5) | {"surrogate": None}, r"^surrogate: this strategy needs a file"),
        ({"train": "/nowhere.npz"}, r"^train: cannot read /nowhere.npz"),
        ({"model": MODEL | {"classes": 4}}, r"^model: the global model does not fit strided28"),
        ({"plan": {"epochs": 0}}, r"^plan.epochs: Input should be greater than 0"),
    ],
)
def test_a_mistake_names_the_field(ask: Any, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(participant, **changes)
