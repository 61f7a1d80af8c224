"""Acceptance test 6 on updates as clients send them: one example exactly, and every one that is alone in its bin."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch.nn.functional import cross_entropy
from typer.testing import CliRunner

from adversary.__main__ import app
from adversary.attacks.gradients.first_layer import Analytic, AnalyticOptions
from adversary.attacks.gradients.imprint import Imprint, ImprintOptions
from adversary.attacks.harness.training import Recipe, training
from adversary.initial import pretrained
from adversary.initial.config import InitialConfig
from adversary.initial.imprint import write
from tests.adversary.attacks.gradients.inversions import federate, run
from wireleak.common.models import build, load_arrays, load_weights
from wireleak.common.plan import ClientPlan
from wireleak.common.traffic import ALL

MODEL = {"name": "imprint28", "input_shape": (1, 28, 28), "classes": 10, "cut": 1}
PERCEPTRON = {"name": "latents", "input_shape": (1, 28, 28), "classes": 10, "cut": 1}
EXACT = 1e-6  # of the mean square


def pictures(count: Any, seed: Any) -> Any:
    """Pictures that differ in brightness, as images do."""
    rng = np.random.default_rng(seed)
    x = rng.random((count, 1, 1, 1)) * 0.6 + 0.4 * rng.random((count, 1, 28, 28))
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Config of a malicious server's first model, and the weights it made."""
    folder = tmp_path_factory.mktemp("initial")
    np.savez(folder / "surrogate.npz", x=pictures(2000, 0), y=np.zeros(2000), range=np.array([0.0, 1.0]))
    config = {
        "name": "imprint",
        "model": MODEL,
        "surrogate": str(folder / "surrogate.npz"),
        "out": str(folder / "model.safetensors"),
    }
    write(InitialConfig.model_validate(config))
    weights = {
        name: torch.from_numpy(np.array(value)) for name, value in load_arrays(folder / "model.safetensors").items()
    }
    return config, weights


def clients(server: Any, count: Any, examples: Any, seed: Any, **how: Any) -> Any:
    """Their pictures (count, examples, ...), the bin of each picture, and what the attacker knows."""
    x = pictures(count * examples, seed)
    _, weights = server
    thresholds = -(weights["0.1.bias"] / weights["0.1.weight"][:, 0] / 784).numpy()
    bins = np.searchsorted(thresholds, x.mean((1, 2, 3)), side="right") - 1
    y = np.random.default_rng(seed).integers(0, 10, (count, examples))
    known = federate(MODEL, x.reshape(count, examples, *x.shape[1:]), y, weights=weights, **how)
    return x, bins, known


def distances(found: Any, x: Any) -> Any:
    """Of each picture to the nearest of those found: mean square."""
    return np.square(found[None] - x[:, None]).mean((2, 3, 4)).min(1)


def test_every_picture_alone_in_its_bin_is_exact_and_no_other(server: Any) -> None:
    x, bins, known = clients(server, 3, 8, 1)
    found = run(attack := Imprint(ImprintOptions(), 0), known)
    assert found.shape == x.shape
    exact = 0
    for client in range(3):
        rows = slice(8 * client, 8 * client + 8)
        alone = np.array([(bins[rows] == b).sum() == 1 and b >= 0 for b in bins[rows]])
        exact += alone.sum()
        assert np.array_equal(distances(found[rows], x[rows]) < EXACT, alone)
    assert exact >= 18 and attack.report["measured"]["bins-filled"] <= 1


def test_it_reads_the_aggregate_as_well(server: Any) -> None:
    x, bins, known = clients(server, 4, 12, 2, aggregate=True)
    found = run(Imprint(ImprintOptions(), 0), known)
    alone = np.array([(bins == b).sum() == 1 and b >= 0 for b in bins])
    assert found.shape == x.shape and 16 <= alone.sum() < 48
    assert np.array_equal(distances(found, x) < EXACT, alone)


def test_two_in_one_bin_give_a_mean_of_both_which_is_no_success(server: Any) -> None:
    x, bins, _ = clients(server, 1, 400, 3)
    shared = next(b for b in range(128) if (bins == b).sum() >= 2)
    pair = x[bins == shared][:2]
    known = federate(MODEL, pair[None], np.array([[1, 1]]), weights=server[1])
    found = run(attack := Imprint(ImprintOptions(), 0), known)
    # The second place is the mean of the attacker's own data, as one bin alone is filled.
    assert attack.report["filled"] == [0.5]
    share, residual, *_ = np.linalg.lstsq(pair.reshape(2, -1).T.astype(float), found[0].ravel(), rcond=None)
    assert residual.item() < 1e-4 and share.sum() == pytest.approx(1, abs=1e-3) and share.min() > 0.1
    assert distances(found, pair).min() > 100 * EXACT


def test_one_picture_through_a_linear_layer_is_exact() -> None:
    x = pictures(2, 4)
    found = run(Analytic(AnalyticOptions(), 0), federate(PERCEPTRON, x[:, None], np.array([[3], [7]])))
    assert np.abs(found - x).max() < 1e-3 and np.square(found - x).mean() < EXACT


def test_of_a_batch_what_relu_lets_through_alone_is_found() -> None:
    x = pictures(4, 5)
    # Centred pictures light about half of the units each.
    known = federate(PERCEPTRON, (x - 0.5)[None], np.array([[0, 1, 2, 3]]))
    known = replace(known, input_range=(-0.5, 0.5))
    found = run(attack := Analytic(AnalyticOptions(), 0), known)
    exact = distances(found, x - 0.5) < 1e-4
    assert attack.report["agreed"][0] >= exact.sum() >= 2


def test_dead_units_leave_the_middle_of_the_range() -> None:
    known = federate(PERCEPTRON, pictures(1, 4)[None], np.array([[3]]))
    assert known.training is not None
    (update,) = known.training.updates
    still = replace(known, training=replace(known.training, updates=(replace(update, end=update.start),)))
    assert (run(Analytic(AnalyticOptions(), 0), still) == 0.5).all()


@pytest.mark.parametrize("attack", [Analytic(AnalyticOptions(), 0), Imprint(ImprintOptions(), 0)])
def test_a_network_that_begins_with_a_convolution_is_refused_in_one_line(attack: Any) -> None:
    model = {"name": "dlg-lenet", "input_shape": (1, 8, 8), "classes": 4, "cut": 1}
    known = federate(model, np.zeros((1, 1, 1, 8, 8), np.float32), np.array([[0]]))
    with pytest.raises(ValueError, match="does not begin with a linear layer") as error:
        attack.fit(known)
    assert "\n" not in str(error.value)


def test_the_seed_fixes_the_model_and_the_scale_its_size(server: Any, tmp_path: Path) -> None:
    config, weights = server
    made = {}
    for name, options, seed in (("same", {}, 0), ("other", {}, 1), ("small", {"scale": 0.03}, 0)):
        out = tmp_path / f"{name}.safetensors"
        write(InitialConfig.model_validate(config | {"out": str(out), "options": options, "seed": seed}))
        made[name] = load_arrays(out)
    assert all(np.array_equal(made["same"][name], value) for name, value in weights.items())
    assert not np.array_equal(made["other"]["2.weight"], made["same"]["2.weight"])
    small, same = (np.asarray(made[name]["0.1.weight"], np.float32) for name in ("small", "same"))
    np.testing.assert_allclose(10 * small, same, rtol=1e-5)
    # The head reads all bins alike.
    assert np.ptp(made["same"]["2.weight"], axis=1).max() == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"options": {"scale": -1}}, "options.scale"),
        ({"options": {"bins": 3}}, "options.bins"),
        ({"model": PERCEPTRON}, 'set model = "imprint28"'),
        ({"model": MODEL | {"input_shape": (2, 28, 28)}}, "surrogate"),
        ({"name": "wiretap"}, "wiretap"),
        ({"surrogate": "/nowhere.npz"}, "nowhere"),
    ],
)
def test_a_model_that_cannot_be_made_is_one_line(
    server: Any, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(server[0] | {"out": str(tmp_path / "out.safetensors")} | change))
    result = CliRunner().invoke(app, ["initial", "--config", str(path)])
    assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()


def test_the_aggregate_is_the_next_global_model_whatever_names_it_travels_by(tmp_path: Path) -> None:
    """Secure aggregation sends the arrays by their order, and no client's update."""
    first, then = ({"a": np.full(3, k, np.float32), "b": np.full(2, k, np.float32)} for k in (1, 2))
    save_file({"0": first["a"], "1": first["b"]}, tmp_path / "round-1-start.safetensors")
    save_file(then, tmp_path / "round-2-start.safetensors")
    recipe = Recipe(ClientPlan(rounds=1, epochs=1, batch=8, learning_rate=0.1, optimiser="sgd"), 3, 8)
    seen = training([tmp_path], recipe, {ALL})
    assert seen.units == [(ALL, 1)] and recipe.behind(ALL) == 24 and recipe.behind(2) == 8
    assert {name: value.tolist() for name, value in seen.updates[0].delta.items()} == {"a": [1, 1, 1], "b": [1, 1]}


def test_a_pretrained_first_model_has_learnt_the_attackers_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    x = (0.3 * rng.random((200, 1, 28, 28)) + 0.5 * y[:, None, None, None]).astype(np.float32)
    np.savez(tmp_path / "s.npz", x=x, y=y)
    model = MODEL | {"name": "latents", "classes": 2}
    config = {"name": "pretrained", "model": model, "surrogate": str(tmp_path / "s.npz"), "out": str(tmp_path / "w")}
    losses = []
    for epochs in (1, 3):
        pretrained.write(InitialConfig.model_validate(config | {"options": {"epochs": epochs}}))
        blocks = build("latents", (1, 28, 28), 2, seed=0).blocks
        load_weights(blocks, tmp_path / "w")
        losses.append(cross_entropy(blocks(torch.from_numpy(x)), torch.from_numpy(y)).item())
    assert losses[1] < losses[0] < 0.69
    with pytest.raises(ValueError, match="surrogate: inputs have shape"):
        pretrained.write(InitialConfig.model_validate(config | {"model": model | {"input_shape": (1, 14, 56)}}))
