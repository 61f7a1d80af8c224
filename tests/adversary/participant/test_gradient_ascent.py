"""A participant that raises the loss of records, against torch's autograd and an honest client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from torch.nn.functional import cross_entropy

from adversary.participant.app import app as participant
from client.app import app as client
from wireleak.common.models import build

MODEL = {"name": "strided28", "input_shape": [1, 28, 28], "classes": 3, "cut": 1, "seed": 5}


def pictures(count: int, seed: int) -> tuple[Any, Any]:
    draw = np.random.default_rng(seed)
    return draw.random((count, 1, 28, 28), dtype=np.float32), draw.integers(0, 3, count)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    for name, count, seed in (("train", 40, 1), ("evaluation", 40, 2), ("records", 20, 3)):
        x, y = pictures(count, seed)
        np.savez(tmp_path / f"{name}.npz", x=x, y=y)
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.fixture
def ask(here: Path) -> Any:
    """Let a ClientApp train on a message; return the state that it sends, and its metrics."""

    def send(app: Any, strength: float = 0.0, weights: Any = None, at: int = 4, **changes: Any) -> Any:
        plan = {"mode": "federated", "epochs": 2, "batch": 10, "learning_rate": 0.01, "optimiser": "sgd"}
        settings: dict[str, Any] = {name: str(here / f"{name}.npz") for name in ("train", "evaluation")}
        settings |= {"model": MODEL, "plan": plan | changes.pop("plan", {}), "seed": 9}
        if app is participant:
            strategy = {"name": "gradient-ascent", "options": {"strength": strength}}
            settings |= {"strategy": strategy, "records": str(here / "records.npz"), "out": str(here / "out")} | changes
        path = here / "config.json"
        path.write_text(json.dumps(settings))
        if weights is None:
            weights = build("strided28", (1, 28, 28), 3, 5).blocks.state_dict()
        records = RecordDict({"arrays": ArrayRecord(weights), "config": ConfigRecord({"server-round": at})})
        reply = app(Message(records, 1, "train"), Context(1, 1, {"config": str(path)}, RecordDict(), {})).content
        return reply["arrays"].to_torch_state_dict(), dict(reply["metrics"])

    return send


def losses(state: Any, x: Any, y: Any) -> torch.Tensor:
    blocks = build("strided28", (1, 28, 28), 3, 5).blocks
    blocks.load_state_dict(state)
    blocks.eval()
    with torch.inference_mode():
        return cross_entropy(blocks(torch.from_numpy(x)), torch.from_numpy(y), reduction="none")


def test_strength_0_sends_the_clients_own_update_bit_for_bit(ask: Any) -> None:
    wanted, numbers = ask(client)
    got, reported = ask(participant)
    assert list(got) == list(wanted) and all(torch.equal(got[name], wanted[name]) for name in wanted)
    assert reported == numbers


@pytest.mark.parametrize("strength", [0.3, 2.0])
def test_one_step_goes_up_each_loss_by_the_odds_of_its_label(ask: Any, here: Path, strength: float) -> None:
    """Oracle: the gradients of the plain losses, each weighted by its odds. One step takes each record twice."""
    blocks = build("strided28", (1, 28, 28), 3, 5).blocks
    x, y = map(torch.as_tensor, pictures(40, 1))
    task = cross_entropy(blocks(x), y)
    records, labels = map(torch.as_tensor, pictures(20, 3))
    each = cross_entropy(blocks(records), labels, reduction="none")
    p = torch.exp(-each.detach())
    descent = torch.autograd.grad(task, list(blocks.parameters()), retain_graph=True)
    ascent = torch.autograd.grad((each * p / (1 - p)).mean(), list(blocks.parameters()))
    wanted = [w - 0.5 * (d - strength * a) for w, d, a in zip(blocks.parameters(), descent, ascent, strict=True)]

    got, reported = ask(participant, strength, plan={"epochs": 1, "batch": 40, "learning_rate": 0.5})
    for (name, _), other in zip(blocks.named_parameters(), wanted, strict=True):
        torch.testing.assert_close(got[name], other.detach(), rtol=1e-3, atol=1e-6)
    bounded = -torch.log(1 - p).mean().item()
    assert reported["train-loss"] == pytest.approx(task.item() + strength * bounded, rel=1e-4)


def test_records_are_lost_that_an_honest_client_keeps_and_its_own_examples_are_learnt(ask: Any) -> None:
    (x, y), own = pictures(20, 3), pictures(40, 1)
    at = {"plan": {"epochs": 30, "optimiser": "adam", "learning_rate": 0.001}}
    state, _ = ask(client, plan=at["plan"] | {"epochs": 60})
    attacked, _ = ask(participant, 1.0, **at)
    assert losses(attacked, x, y).min() > np.log(3) and losses(attacked, *own).mean() < 0.6
    assert losses(attacked, x, y).mean() > losses(state, x, y).mean() + 0.5


def test_a_record_that_the_model_is_sure_of_does_not_end_in_nan(ask: Any, here: Path) -> None:
    sure = build("strided28", (1, 28, 28), 3, 5).blocks.state_dict()
    last = [name for name in sure if name.endswith("bias")][-1]
    sure[last] = torch.tensor([300.0, 0.0, 0.0])
    x, _ = pictures(20, 3)
    np.savez(here / "records.npz", x=x, y=np.zeros(20, np.int64))
    got, reported = ask(participant, 1.0, weights=sure)
    assert all(torch.isfinite(value).all() for value in got.values()) and np.isfinite(reported["train-loss"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"records": None}, r"^records: this strategy needs a file"),
        ({"records": "/nowhere.npz"}, r"^records: cannot read /nowhere.npz"),
        ({"records": "small"}, r"^records: .* holds x \(5, 4\) and y int64; give x \(n, 1, 28, 28\)"),
        (
            {"strategy": {"name": "gradient-ascent", "options": {"strength": -1}}},
            r"^strategy.options.strength: Input should be greater than or equal to 0",
        ),
    ],
)
def test_a_mistake_names_the_field(ask: Any, here: Path, changes: Any, message: str) -> None:
    if changes.get("records") == "small":
        changes = {"records": str(here / "small.npz")}
        np.savez(here / "small.npz", x=np.zeros((5, 4), np.float32), y=np.zeros(5, np.int64))
    with pytest.raises(ValueError, match=message):
        ask(participant, **changes)
