"""Ranking numbers off a captured language model: the same exposures as with the model in hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from adversary.attacks.harness.run import attack
from wireleak.common.measures.statistics.secret_sharer import (
    ALPHABET,
    PHRASE,
    WINDOW,
    draw_canaries,
    exposures,
    exposures_among,
    perplexities,
    planted,
)
from wireleak.common.models.networks import build
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import ClientPlan

MODEL = {"name": "char-lstm", "input_shape": [WINDOW], "classes": len(ALPHABET), "cut": 1, "seed": 0}
TEXT = "what was the code again, and who is it that asks for the numbers of this and of that door. "


def network(seed: Any = 0) -> nn.Sequential:
    return build("char-lstm", (WINDOW,), len(ALPHABET), seed).blocks


@pytest.fixture(scope="module")
def learnt() -> Any:
    """A model that has learnt numbers of three digits, and how often each stood in its text."""
    canaries = draw_canaries([1, 20, 20], 3, np.random.default_rng(4))
    blocks = network()
    train_whole(blocks, *planted(TEXT, canaries), Training(ClientPlan(epochs=6, batch=32, learning_rate=0.01), (0,)))
    return blocks, canaries


@pytest.fixture
def run(tmp_path: Path, learnt: Any) -> Any:
    """What a curious server keeps of two clients in two rounds, attacked as a whole from a vantage."""
    blocks, _ = learnt

    def run(victims: Any = 1000, released: Any = False, spoilt: Any = False) -> Any:
        held = {name: value.clone() for name, value in blocks.state_dict().items()}
        if spoilt:
            held = {name: torch.full_like(value, torch.nan) for name, value in held.items()}
        for client in (0, 1):
            folder = tmp_path / f"client-{client}"
            folder.mkdir(exist_ok=True)
            for number in (1, 2):
                # The planted client's last update at the server; the model at the last round's start when released.
                mine = held if (number == 2 and released) or spoilt else network(number).state_dict()
                save_file(dict(mine), folder / f"round-{number}-start.safetensors")
                sent = held if (client, number) == (0, 2) and not released else network(7 + number).state_dict()
                save_file(dict(sent), folder / f"round-{number}-end.safetensors")
        np.savez(tmp_path / "surrogate.npz", x=np.zeros((2, WINDOW), np.float32), y=np.zeros(2, np.int64))
        told = {
            "plan": {"rounds": 2, "epochs": 1, "batch": 8, "learning_rate": 0.01, "optimiser": "adam"},
            "participants": 2, "examples": 8, "own": None, "released": released, "units": [[0, 1], [0, 2]],
        }  # fmt: skip
        config = {
            "attack": "secret-sharer", "target": "canary", "victims": victims, "training": told,
            "captures": {"victims": [str(tmp_path / f"client-{client}") for client in (0, 1)]},
            "granted": {"surrogate": str(tmp_path / "surrogate.npz"), "model": MODEL}, "out": str(tmp_path / "out"),
        }  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps(config))
        attack(tmp_path / "config.json")
        with np.load(tmp_path / "out" / "guesses.npz") as guesses:
            return dict(guesses), json.loads((tmp_path / "out" / "meta.json").read_text())

    return run


@pytest.mark.parametrize("released", [False, True])
def test_exposures_are_those_of_the_model_in_hand(run: Any, learnt: Any, released: bool) -> None:
    guesses, meta = run(released=released)
    assert list(guesses) == ["secret-sharer"] and guesses["secret-sharer"].shape == (1000, 1)
    blocks, canaries = learnt
    seen = exposures_among(guesses["secret-sharer"][:, 0], canaries, np.random.default_rng(1))
    own = exposures(blocks, canaries, np.random.default_rng(1))
    for one, other in zip(seen, own, strict=True):
        assert (one.digits, one.times) == (other.digits, other.times)
        # Guesses are kept as float32: two numbers that differ by less may tie.
        assert one.exposure == pytest.approx(other.exposure, abs=0.1)
        assert one.extrapolated == pytest.approx(other.extrapolated, abs=0.05)
    assert max(one.exposure for one in seen) > 8
    assert meta["fit"]["read"] == ("the last global model" if released else "the participant's last update")
    assert next(iter(meta["fit"]["likeliest"])) in [digits for digits, times in canaries.items() if times == 20]


def test_how_many_rows_there_are_says_how_many_digits_follow(run: Any, learnt: Any) -> None:
    guesses, _ = run(victims=100)
    np.testing.assert_allclose(guesses["secret-sharer"][:, 0], perplexities(learnt[0], 2), rtol=1e-5)


def test_a_model_that_is_not_finite_tells_nothing(run: Any, learnt: Any) -> None:
    guesses, _ = run(spoilt=True)
    assert len(np.unique(guesses["secret-sharer"])) == 1
    found = exposures_among(guesses["secret-sharer"][:, 0], learnt[1], np.random.default_rng(0))
    assert {(one.exposure, one.extrapolated) for one in found} == {(0.0, 0.0)}


def test_the_phrase_fits_the_window() -> None:
    """Else the model could not tell a number's first digit from its last."""
    assert len(PHRASE) + 6 <= WINDOW
