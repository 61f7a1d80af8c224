"""A malicious participant of split training, against a real head: honest messages where it poisons nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from torch.nn.functional import cross_entropy
from typer.testing import CliRunner

from adversary.__main__ import app as command
from adversary.participant.app import app as participant
from adversary.participant.config import ParticipantConfig
from adversary.participant.registry import Poisoning, make
from client.app import app as client
from server.config import ServerConfig
from server.head import start
from wireleak.common.models import build
from wireleak.common.models.training import Training

MODEL = {"name": "strided28", "input_shape": [1, 28, 28], "classes": 3, "cut": 2, "seed": 5}
PLAN = {"mode": "split", "rounds": 4, "epochs": 2, "batch": 16, "learning_rate": 0.01, "optimiser": "sgd"}


def pictures(n: int, seed: int) -> Any:
    """Pictures with random labels, of which every third is brighter."""
    draw = np.random.default_rng(seed)
    bright = (np.arange(n) % 3 == 0).astype(np.int64)
    x = draw.random((n, 1, 28, 28), dtype=np.float32) * 0.5 + 0.5 * bright[:, None, None, None]
    return x.astype(np.float32), draw.integers(0, 3, n), bright


@pytest.fixture
def here(tmp_path: Path) -> Path:
    for name, seed in (("train", 1), ("evaluation", 2), ("surrogate", 3)):
        x, y, bright = pictures(40, seed)
        arrays: Any = {"x": x, "y": y, "attribute:bright": bright, "attribute:number": np.arange(40) % 4}
        np.savez(tmp_path / f"{name}.npz", **arrays)
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.fixture
def ask(here: Path) -> Iterator[Any]:
    """Send a message to a ClientApp whose head has just started; its weights after it, and the head's."""
    running = []

    def send(app: Any, kind: str = "train", plan: Any = (), **changes: Any) -> Any:
        plan = PLAN | dict(plan)
        server = {
            "model": MODEL, "plan": plan, "ready": str(here / "ready"), "clients": 1, "seed": 0,
            "checkpoints": str(here / "c"), "history": str(here / "h"),
        }  # fmt: skip
        running.append(start(ServerConfig.model_validate(server)))
        settings = {
            "model": MODEL, "train": str(here / "train.npz"), "evaluation": str(here / "evaluation.npz"),
            "plan": plan, "seed": 9, "head": {"address": f"127.0.0.1:{running[-1].port}"},
        } | changes  # fmt: skip
        if app is participant:
            own = {"strategy": {"name": "honest"}, "surrogate": str(here / "surrogate.npz"), "out": str(here / "out")}
            settings = own | settings
        path = here / "config.json"
        path.write_text(json.dumps(settings))
        weights = build("strided28", (1, 28, 28), 3, 5).split(2)[0].state_dict()
        records = RecordDict({"arrays": ArrayRecord(weights), "config": ConfigRecord({"server-round": 4})})
        reply = app(Message(records, 1, kind), Context(1, 1, {"config": str(path)}, RecordDict(), {})).content
        state = reply["arrays"].to_torch_state_dict() if kind == "train" else {}
        told = {name: value for name, value in reply["metrics"].items() if name != "device-seconds"}
        return {**state, **running[-1].stage.head.state_dict()}, told, set(reply["metrics"])

    yield send
    for head in running:
        head.stop(0)


def poison(share: float, **options: Any) -> Any:
    return {"strategy": {"name": "property-poison", "options": {"attribute": "bright", "share": share} | options}}


def strategy(here: Path, share: float, plan: Any = PLAN, **options: Any) -> Poisoning:
    config = ParticipantConfig.model_validate(
        {
            "model": MODEL, "train": here / "train.npz", "evaluation": here / "evaluation.npz", "plan": plan, "seed": 9,
            "surrogate": here / "surrogate.npz", "out": here / "out",
        }
        | poison(share, **options)
    )  # fmt: skip
    made = make(config)
    assert isinstance(made, Poisoning)
    return made


def how(here: Path) -> Training:
    return Training(strategy(here, 0.0).config.plan, (9, 4))


@pytest.mark.parametrize("chosen", [{}, poison(0.0)])
def test_without_poison_it_trains_as_the_client_does_bit_for_bit(ask: Any, chosen: Any) -> None:
    wanted, numbers, names = ask(client)
    got, reported, same = ask(participant, **chosen)
    assert list(got) == list(wanted) and all(torch.equal(got[name], wanted[name]) for name in wanted)
    assert (reported, same) == (numbers, names)


@pytest.mark.parametrize("chosen", [{}, poison(0.5)])
def test_it_is_evaluated_as_the_client_is(ask: Any, chosen: Any) -> None:
    assert ask(participant, "evaluate", **chosen)[1] == pytest.approx(ask(client, "evaluate")[1], rel=1e-5)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_the_poison_is_surrogate_examples_labelled_by_their_property(here: Path, share: float) -> None:
    own, labels, _ = pictures(40, 1)
    others, _, bright = pictures(40, 3)
    x, y = strategy(here, share).examples(own, labels, how(here))
    changed = (x != own).any((1, 2, 3))
    assert changed.sum() == share * 40 and x.dtype == np.float32
    assert np.array_equal(y[~changed], labels[~changed])
    origin = [int(np.flatnonzero((others == one).all((1, 2, 3)))[0]) for one in x[changed]]
    assert np.array_equal(y[changed], bright[origin])
    assert y[changed].sum() == share * 20  # as many of each value, though a third of the surrogates are bright
    assert np.array_equal(own, pictures(40, 1)[0])


def test_one_step_of_head_and_encoder_is_that_of_the_mixed_loss(ask: Any, here: Path) -> None:
    """Oracle: torch.autograd on the whole network, with SGD before the cut and Adam behind it."""
    plan = PLAN | {"epochs": 1, "batch": 40, "learning_rate": 0.05}
    own, labels, _ = pictures(40, 1)
    x, y = map(torch.from_numpy, strategy(here, 0.5, plan).examples(own, labels, how(here)))
    network = build("strided28", (1, 28, 28), 3, 5)
    encoder, head = network.split(2)
    loss = cross_entropy(network.blocks(x), y)
    loss.backward()
    torch.optim.SGD(encoder.parameters(), lr=0.05).step()
    torch.optim.Adam(head.parameters(), lr=0.05).step()
    got, reported, _ = ask(participant, plan=plan, **poison(0.5))
    torch.testing.assert_close(got, dict(network.blocks.state_dict()), rtol=1e-3, atol=1e-5)
    assert reported == {"num-examples": 40, "train-loss": pytest.approx(loss.item(), rel=1e-5)}


def test_the_poison_is_drawn_anew_in_every_round(here: Path) -> None:
    own, labels, _ = pictures(40, 1)
    made, plan = strategy(here, 0.5), how(here).plan
    first, again, next_round = (made.examples(own, labels, Training(plan, (9, at)))[0] for at in (4, 4, 5))
    assert np.array_equal(first, again) and not np.array_equal(first, next_round)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (poison(0.5, attribute="number"), r"^strategy.options.attribute: number has 4 values, but the task only 3"),
        (poison(1.5), r"^strategy.options.share: Input should be less than or equal to 1"),
        ({"head": None}, r"^head: is missing, and split mode needs it"),
        (
            {"strategy": {"name": "multi-task", "options": {"attribute": "bright"}}},
            r"^strategy.name: multi-task does not run in split mode; choose one of .*property-poison",
        ),
    ],
)
def test_a_mistake_names_the_field(ask: Any, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        ask(participant, **changes)
    assert "\n" not in str(error.value)


def test_a_strategy_of_whole_networks_is_refused_before_a_run() -> None:
    chosen = json.dumps({"name": "multi-task", "options": {"attribute": "bright"}})
    assert CliRunner().invoke(command, ["participant", chosen]).exit_code == 0
    refused = CliRunner().invoke(command, ["participant", chosen, "--mode", "split"])
    assert refused.exit_code == 2 and "multi-task does not run in split mode" in refused.output
