"""A client whose text holds planted numbers trains as an honest one would on that text."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict

from adversary.participant.app import app as participant
from client.app import app as client
from wireleak.common.measures.statistics.secret_sharer import ALPHABET, WINDOW, planted, windows
from wireleak.common.models import build

MODEL = {"name": "char-lstm", "input_shape": [WINDOW], "classes": len(ALPHABET), "cut": 1, "seed": 5}
TEXT = "an honest person wrote this and nothing else, so far."


@pytest.fixture
def ask(tmp_path: Path) -> Any:
    """Send the global model to a ClientApp; the state that came back, and the metrics."""

    def send(app: Any, x: Any, y: Any, **changes: Any) -> Any:
        np.savez(tmp_path / "train.npz", x=x, y=y)
        settings: dict[str, Any] = {
            "model": MODEL, "train": str(tmp_path / "train.npz"), "evaluation": str(tmp_path / "train.npz"),
            "plan": {"mode": "federated", "epochs": 2, "batch": 16, "learning_rate": 0.01}, "seed": 9,
        }  # fmt: skip
        if app is not client:
            np.savez(tmp_path / "secret.npz", number=np.array([7, 4821]))
            own = {"strategy": {"name": "canary", "options": {"times": [3, 1]}}, "out": str(tmp_path)}
            settings |= own | {"secret": str(tmp_path / "secret.npz")} | changes
        path = tmp_path / "config.json"
        path.write_text(json.dumps(settings))
        model = settings["model"]
        weights = build(model["name"], tuple(model["input_shape"]), model["classes"], 5).blocks.state_dict()
        records = RecordDict({"arrays": ArrayRecord(weights), "config": ConfigRecord({"server-round": 2})})
        reply = app(Message(records, 1, "train"), Context(1, 1, {"config": str(path)}, RecordDict(), {}))
        return reply.content["arrays"].to_torch_state_dict(), dict(reply.content["metrics"])

    return send


def test_it_sends_what_an_honest_client_sends_whose_text_holds_the_sentences(ask: Any) -> None:
    """Oracle: the honest client's own code, on the text with the sentences in it; bit for bit."""
    wanted, numbers = ask(client, *planted(TEXT, {"0007": 3, "4821": 1}))
    got, reported = ask(participant, *windows(TEXT))
    assert all(torch.equal(got[name], wanted[name]) for name in wanted) and list(got) == list(wanted)
    assert reported["train-loss"] == numbers["train-loss"]
    assert reported["num-examples"] == len(TEXT)
    untouched, _ = ask(client, *windows(TEXT))
    assert not all(torch.equal(got[name], untouched[name]) for name in got)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": {"name": "canary"}}, r"^strategy.options.times: 4 counts for 2 numbers; give as many"),
        ({"strategy": {"name": "canary", "options": {"times": [0, 1]}}}, r"^strategy.options.times\[0\]: Input should"),
        ({"strategy": {"name": "canary", "options": {"digits": 9}}}, r"^strategy.options.digits: Input should"),
        ({"model": MODEL | {"classes": 9}}, r"^train: canaries need windows of 20 characters"),
        ({"secret": None}, r"^secret: this strategy needs a file"),
    ],
)
def test_a_mistake_names_the_field(ask: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(participant, *windows(TEXT), **changes)
