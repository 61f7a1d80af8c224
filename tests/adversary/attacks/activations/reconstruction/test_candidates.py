"""The informed attacker names what was sent, is Bayes under Gaussian noise, and stays under what theory allows."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy.stats import laplace
from torch import nn

from adversary.attacks.activations.reconstruction.candidates import Candidates, CandidatesOptions, read_candidates
from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.harness.run import attack
from wireleak.common.measures.bounds.gaussian import epsilon_of
from wireleak.common.measures.bounds.reconstruction_robustness import (
    success_among_candidates,
    success_under_mu,
    success_within_ball,
)
from wireleak.common.models import ModelConfig, build, save_weights
from wireleak.common.models.networks import register


@register("linear-8x8-of-a-test")
def _linear(input_shape: Any, classes: Any) -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(64, 64)), nn.Linear(64, classes))


def model(name: Any, shape: Any, cut: Any) -> Any:
    return {"name": name, "input_shape": list(shape), "classes": 2, "cut": cut, "seed": 0}


@pytest.fixture
def granted(world: Any, tmp_path: Path) -> Any:
    """What a config grants: the linear encoder that the captured activations really come from, and the candidates."""
    encoder, _ = build("linear-8x8-of-a-test", (1, 8, 8), 2, 0).split(1)
    x = world.private.reshape(-1, 64)
    weights = np.linalg.lstsq(x - 0.5, world.private_seen, rcond=None)[0]
    assert isinstance(encoder[0], nn.Sequential)
    layer = encoder[0][1]
    assert isinstance(layer, nn.Linear)
    layer.weight.data = torch.from_numpy(weights.T.copy())
    layer.bias.data = torch.from_numpy(-0.5 * weights.sum(0))
    save_weights(encoder, tmp_path / "encoder.safetensors")
    np.savez(tmp_path / "candidates.npz", x=np.random.default_rng(0).permutation(world.private))
    return {
        "surrogate": str(tmp_path / "surrogate.npz"),
        "model": model("linear-8x8-of-a-test", (1, 8, 8), 1),
        "encoder": str(tmp_path / "encoder.safetensors"),
        "files": {"candidates": str(tmp_path / "candidates.npz")},
    }


def test_names_every_input_from_captured_bytes(config: Any, granted: Any, world: Any) -> None:
    path, out = config(attack="candidates", granted=granted)
    attack(path)
    with np.load(out / "guesses.npz") as guesses:
        assert np.array_equal(guesses["candidates"], world.private)
    meta = json.loads((out / "meta.json").read_text())
    assert meta["fit"]["candidates"] == len(world.private) and meta["threat"]["knows"][-1] == "candidates"


@pytest.mark.parametrize("files", [{}, {"candidates": "/nowhere/candidates.npz"}])
def test_no_candidates_is_one_clear_line(
    config: Any, granted: Any, capsys: pytest.CaptureFixture[str], files: dict[str, Any]
) -> None:
    path, _ = config(attack="candidates", granted=granted | {"files": files})
    with pytest.raises(SystemExit) as ended:
        attack(path)
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("granted.files.candidates: ") and "\n" not in said


@pytest.fixture(scope="module")
def encoded() -> Any:
    """Pictures, a convolutional encoder's 32 numbers of each, and where its weights lie."""
    torch.manual_seed(0)
    x = torch.rand(40, 1, 28, 28) * torch.rand(40, 1, 1, 1)
    encoder, _ = build("strided28", (1, 28, 28), 2, 3).split(4)
    with torch.no_grad():
        z = encoder.eval()(x).flatten(1)
    return SimpleNamespace(encoder=encoder, x=x.numpy(), z=z.double().numpy())


def informed(encoded: Any, tmp_path: Path, clip: Any, from_file: Any = True, norm: Any = 2) -> Candidates:
    """The attack, fitted on what a device with this clip makes public."""
    save_weights(encoded.encoder, tmp_path / "encoder.safetensors")
    public = {"clip": np.array(clip), "norm": np.array(norm)} if from_file else {}
    np.savez(tmp_path / "candidates.npz", allow_pickle=False, x=encoded.x, **public)
    empty = np.zeros(0, np.float32)
    knowledge = Knowledge(
        seen=empty,
        inputs=np.zeros((0, 1, 28, 28), np.float32),
        labels=np.zeros(0, np.int64),
        attribute=None,
        classes=0,
        augmented=np.zeros(0, bool),
        seed=0,
        model=ModelConfig.model_validate(model("strided28", (1, 28, 28), 4)),
        encoder=tmp_path / "encoder.safetensors",
        files={"candidates": tmp_path / "candidates.npz"},
    )
    options = CandidatesOptions() if from_file else CandidatesOptions(clip=clip, norm=norm)
    attack = Candidates(options, seed=0)
    attack.fit(knowledge)
    return attack


def clipped(z: Any, clip: Any, norm: Any = 2) -> Any:
    return z * np.minimum(1, clip / np.linalg.norm(z, ord=norm, axis=1, keepdims=True))


@pytest.mark.parametrize("from_file", [True, False])
def test_it_is_the_bayes_attacker(encoded: Any, tmp_path: Path, from_file: bool) -> None:
    """Beside the posterior written out, whose maximum no attacker's success exceeds."""
    clip, sigma, n = 3.0, 0.3, 600
    attack = informed(encoded, tmp_path, clip, from_file)
    rng = np.random.default_rng(0)
    sent = rng.integers(0, len(encoded.x), n)
    codes = clipped(encoded.z, clip)
    assert np.linalg.norm(encoded.z, axis=1).min() > clip  # the clip matters
    z = codes[sent] + sigma * rng.standard_normal((n, 32))
    log = -((z[:, None] - codes) ** 2).sum(2) / (2 * sigma**2)
    posterior = np.exp(log - log.max(1, keepdims=True))
    posterior /= posterior.sum(1, keepdims=True)
    chosen = attack.choose(z.astype(np.float32))
    ties = np.sort(posterior, 1)
    assert (chosen == posterior.argmax(1))[ties[:, -1] - ties[:, -2] > 1e-3].all()
    assert (chosen == sent).mean() == pytest.approx(posterior.max(1).mean(), abs=0.06)
    assert np.array_equal(attack.guess(z.astype(np.float32)), encoded.x[chosen])


@pytest.mark.parametrize("from_file", [True, False])
def test_it_is_the_bayes_attacker_of_laplace_noise_too(encoded: Any, tmp_path: Path, from_file: bool) -> None:
    """The likeliest by scipy's density of each number; and no oftener right than epsilon allows."""
    clip, n, m = 10.0, 600, len(encoded.x)
    attack = informed(encoded, tmp_path, clip, from_file, norm=1)
    assert attack.report["norm"] == 1
    rng = np.random.default_rng(3)
    codes = clipped(encoded.z, clip, 1)
    assert np.abs(encoded.z).sum(1).min() > clip
    for epsilon in (4.0, 60.0):
        scale = 2 * clip / epsilon
        sent = rng.integers(0, m, n)
        z = (codes[sent] + rng.laplace(scale=scale, size=(n, 32))).astype(np.float32)
        log = laplace.logpdf(z[:, None], codes, scale).sum(2)
        chosen = attack.choose(z)
        best = np.sort(log, 1)
        assert (chosen == log.argmax(1))[best[:, -1] - best[:, -2] > 1e-3].all()
        bound = success_among_candidates(1 / m, epsilon)
        assert (chosen == sent).mean() <= bound + 3 * math.sqrt(bound * (1 - bound) / n)
    by_euclid = ((z[:, None] - codes) ** 2).sum(2).argmin(1)
    assert (chosen == sent).mean() > (by_euclid == sent).mean() > 2 / m


def test_a_norm_that_is_neither_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "candidates.npz", x=np.zeros((3, 4), np.float32), norm=np.array(3))
    with pytest.raises(ValueError, match="has norm 3; give 1 or 2"):
        read_candidates(tmp_path / "candidates.npz")


@pytest.mark.parametrize("mu", [0.5, 2.0, 8.0, 40.0])
def test_acceptance_13_success_stays_under_both_bounds(encoded: Any, tmp_path: Path, mu: float) -> None:
    clip, n, m = 3.0, 4000, len(encoded.x)
    sigma = 2 * clip / mu
    attack = informed(encoded, tmp_path, clip)
    rng = np.random.default_rng(1)
    sent = rng.integers(0, m, n)
    z = clipped(encoded.z, clip)[sent] + sigma * rng.standard_normal((n, 32))
    rate = (attack.choose(z.astype(np.float32)) == sent).mean()
    bound = success_within_ball(1 / m, clip, sigma)
    assert rate <= bound + 3 * math.sqrt(bound * (1 - bound) / n)
    assert bound <= success_under_mu(1 / m, mu) and epsilon_of(mu, 1e-5) > 0
    if mu == 40:
        assert rate > 5 / m  # the test is not passed by an attack that learns nothing


def test_ignoring_the_clip_costs_success(encoded: Any, tmp_path: Path) -> None:
    clip, sigma = 1.0, 0.02
    rng = np.random.default_rng(2)
    sent = rng.integers(0, len(encoded.x), 500)
    z = (clipped(encoded.z, clip)[sent] + sigma * rng.standard_normal((500, 32))).astype(np.float32)
    aware, unaware = (informed(encoded, tmp_path, one) for one in (clip, 1e9))
    assert (aware.choose(z) == sent).mean() > (unaware.choose(z) == sent).mean() + 0.2


def test_one_candidate_or_another_files_arrays_are_refused(encoded: Any, tmp_path: Path) -> None:
    attack = informed(encoded, tmp_path, 1.0)
    with pytest.raises(ValueError, match="rows have 7 values"):
        attack.choose(np.zeros((2, 7), np.float32))
    for arrays, message in (
        ({"x": encoded.x[:1]}, "give at least 2"),
        ({"y": encoded.x}, "not an .npz file with an array 'x'"),
    ):
        np.savez(tmp_path / "candidates.npz", **arrays)
        with pytest.raises(ValueError, match=message):
            attack.fit(cast(Knowledge, SimpleNamespace(files={"candidates": tmp_path / "candidates.npz"})))
