"""What an attacker makes of a server's records, and of itself as a participant."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from adversary.attacks.harness.training import Recipe, training
from wireleak.common.plan import ClientPlan
from wireleak.common.traffic import OTHERS


def recipe(**changes: Any) -> Recipe:
    plan = ClientPlan(rounds=2, epochs=1, batch=4, learning_rate=0.1, optimiser="sgd")
    fields: dict[str, Any] = {"plan": plan, "participants": 3, "examples": 4}
    return Recipe(**fields | changes)


@pytest.fixture
def records(tmp_path: Path) -> Any:
    """Three clients' records of two rounds of plain averaging, with a counter that is no float."""
    rng = np.random.default_rng(0)
    model = {"w": rng.normal(size=(3, 2)).astype(np.float32), "steps": np.array([0])}
    kept = {}
    for number in (1, 2):
        ends = [
            {"w": model["w"] + rng.normal(size=(3, 2)).astype(np.float32), "steps": np.array([number])}
            for _ in range(3)
        ]
        mean = {name: np.mean([end[name] for end in ends], axis=0).astype(model[name].dtype) for name in model}
        for client, end in enumerate(ends):
            folder = tmp_path / f"client-{client}"
            folder.mkdir(exist_ok=True)
            save_file(model, folder / f"round-{number}-start.safetensors")
            save_file(mean, folder / f"round-{number + 1}-start.safetensors")
            save_file(end, folder / f"round-{number}-end.safetensors")
            kept[client, number] = (dict(model), end)
        model = mean
    return tmp_path, kept


def test_a_server_has_every_update_and_every_model(records: Any) -> None:
    folder, kept = records
    seen = training([folder / f"client-{client}" for client in range(3)], recipe())
    assert seen.units == [(client, number) for client in range(3) for number in (1, 2)]
    assert sorted(seen.models) == [1, 2, 3] and seen.messages == 15
    for one in seen.updates:
        start, end = kept[one.sender, one.round]
        assert set(one.delta) == {"w"}
        np.testing.assert_array_equal(one.delta["w"], end["w"] - start["w"])
        np.testing.assert_allclose(one.gradient(0.1)["w"], -10 * (end["w"] - start["w"]), rtol=1e-6)


def test_only_the_asked_senders_are_kept(records: Any) -> None:
    folder, _ = records
    seen = training([folder / f"client-{client}" for client in range(3)], recipe(), [1])
    assert seen.units == [(1, 1), (1, 2)]


def test_a_participant_has_the_mean_of_the_others(records: Any) -> None:
    folder, kept = records
    seen = training([folder / "client-0"], recipe(own=0))
    assert seen.units == [(OTHERS, 1), (OTHERS, 2)] and [one.sender for one in seen.own] == [0, 0]
    for one in seen.updates:
        mean = (kept[1, one.round][1]["w"] + kept[2, one.round][1]["w"]) / 2
        np.testing.assert_allclose(one.end["w"], mean, atol=1e-6)


def test_a_release_is_the_last_model_alone(records: Any) -> None:
    folder, _ = records
    seen = training([folder / "client-0"], recipe(), released=True)
    assert list(seen.models) == [3] and seen.updates == ()


def test_nothing_seen_is_said(tmp_path: Path) -> None:
    (tmp_path / "client-0").mkdir()
    assert training([tmp_path / "client-0"], recipe()).notes == ("0 model updates seen",)
    assert training([tmp_path / "client-0"], recipe(), released=True).notes == ("0 global models seen",)
