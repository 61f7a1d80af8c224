"""Bounds beside measured attacks: their values where the Bayes attacker is known, and how they are printed."""

import importlib
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from wireleak.common.measures.bounds import two_points
from wireleak.common.measures.bounds.gaussian import epsilon_of
from wireleak.common.measures.bounds.randomised_response import Response
from wireleak.common.measures.bounds.van_trees import van_trees
from wireleak.common.measures.quantities.quantity import Quantity
from wireleak.common.measures.quantities.reported import REPORTED
from wireleak.common.measures.scores.measure import MEASURES
from wireleak.common.models import build, save_weights
from wireleak.common.models.networks import register
from wireleak.common.references import BALL, KNOWN, PROVED, TWO_INPUTS, UNBIASED, VAN_TREES, Reference, reference
from wireleak.lab.report.findings import findings
from wireleak.lab.report.page import page
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.job import AttackJob
from wireleak.lab.run.results import Results, Row, write_results
from wireleak.lab.run.seeds import Seeds
from wireleak.lab.steps.bounds import (
    WireNoise,
    companion_rows,
    noise_of,
    write_candidates,
)
from wireleak.lab.steps.two_points import promise_of
from wireleak.lab.study.schema import Study

D, K, VICTIMS = 16, 12, 600
SPREAD = np.linspace(0.2, 2.0, D)  # standard deviation of each input value


@register("linear-of-a-test")
def _linear(input_shape: Any, classes: Any) -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(D, K)), nn.Linear(K, classes))


@register("wide-of-a-test")
def _wide(input_shape: Any, classes: Any) -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(36, 200), nn.Tanh()), nn.Linear(200, classes))


def study(transforms: Any, **variant: Any) -> Study:
    return Study.model_validate(
        {
            "name": "bounds",
            "description": "bounds",
            "data": {"name": "digits", "train": 10, "evaluation": 10, "attacker": 10, "victims": VICTIMS},
            "model": {"name": "linear-of-a-test"},
            "variants": [{"name": "noised", "cut": 1, "transforms": transforms, **variant}],
            "attacks": [{"name": name, "targets": ["input"]} for name in ("inversion", "candidates")],
        }
    )


def noise(sigma: Any, clip: Any = None) -> Any:
    return [{"name": "noise", "options": {"sigma": sigma} | ({} if clip is None else {"clip": clip})}]


def laplace(scale: Any, clip: Any = None) -> Any:
    return [
        {
            "name": "laplace",
            "options": {"scale": scale} if clip is None else {"clip": clip, "epsilon": 2 * clip / scale},
        }
    ]


class Finished:
    """A finished cell's folder: Gaussian inputs, a linear encoder, and both attacks' guesses.

    `sigma` is Gaussian noise's, or Laplace noise's scale where `norm` is 1.
    """

    def __init__(self, folder: Any, sigma: Any, clip: Any = None, norm: Any = 2, **variant: Any) -> None:
        declared = study((noise if norm == 2 else laplace)(sigma, clip), **variant)
        self.cell = Cell(declared, declared.variants[0], 0, folder, (D,), 2, Seeds(bytes(32)))
        self.jobs = [AttackJob(self.cell, use, "input") for use in declared.attacks]
        rng = np.random.default_rng(5)
        self.x = (rng.standard_normal((VICTIMS, D)) * SPREAD).astype(np.float32)
        own = (rng.standard_normal((4000, D)) * SPREAD).astype(np.float32)
        encoder, _ = build("linear-of-a-test", (D,), 2, 0).split(1)
        for path in (self.cell.checkpoints, self.cell.device("victim"), self.cell.ledger.parent):
            path.mkdir(parents=True)
        self.cell.surrogate.parent.mkdir(parents=True)
        save_weights(encoder, self.cell.checkpoints / "encoder-2.safetensors")
        np.savez(self.cell.ledger, x=self.x)
        np.savez(self.cell.device("victim") / "inputs.npz", x=self.x)
        np.savez(self.cell.surrogate, x=own, augmented=np.zeros(len(own), bool))
        candidates = np.load(write_candidates(self.cell))
        layer = list(encoder.modules())[-1]
        assert isinstance(layer, nn.Linear)
        weights, bias = (p.detach().double().numpy() for p in layer.parameters())
        self.weights = weights

        def encode(x: Any) -> Any:
            z = x @ weights.T + bias
            return z if clip is None else z * np.minimum(1, clip / np.linalg.norm(z, norm, axis=1, keepdims=True))

        drawn = rng.standard_normal((VICTIMS, K)) if norm == 2 else rng.laplace(size=(VICTIMS, K))
        z = encode(self.x) + sigma * drawn
        codes = encode(candidates["x"])
        named = candidates["x"][(np.abs(z[:, None] - codes) ** norm).sum(2).argmin(1)]
        inverse = np.linalg.inv(weights.T @ weights / sigma**2 + np.diag(SPREAD**-2))
        rebuilt = (z - bias) @ weights @ inverse / sigma**2  # the posterior mean: Bayes, where nothing is clipped
        for job, guess in zip(self.jobs, (rebuilt, named), strict=True):
            job.out.mkdir(parents=True)
            np.savez(job.guesses, **{job.use.name: guess.astype(np.float32)})
        self.mse = float(((rebuilt - self.x) ** 2).mean())
        self.named = float((named == self.x).all(1).mean())

    def rows(self) -> list[Row]:
        return companion_rows(self.cell, self.jobs)


def value(rows: Any, attack: Any, measure: Any, name: Any) -> Any:
    (found,) = [row.value for row in rows if (row.attack, row.measure, row.name) == (attack, measure, name)]
    return found


@pytest.mark.parametrize("sigma", [0.02, 0.5, 5.0])
def test_linear_encoder_and_gaussian_inputs(tmp_path: Path, sigma: float) -> None:
    done = Finished(tmp_path, sigma)
    rows = done.rows()
    dfil = (done.weights**2).sum() / D / sigma**2
    assert value(rows, "inversion", "dfil", UNBIASED) == pytest.approx(dfil, rel=1e-4)
    assert value(rows, "inversion", "mse", UNBIASED) == pytest.approx(1 / dfil, rel=1e-4)
    norm = np.linalg.norm(done.weights, 2) / sigma
    for name in ("least exposed 5 %", "most exposed 5 %"):
        assert value(rows, "inversion", "eta", name) == pytest.approx(norm, rel=1e-4)
    bound = value(rows, "inversion", "mse", VAN_TREES)
    assert done.mse == pytest.approx(bound, rel=0.06)  # the Bayes attacker attains it, up to its 600 victims
    assert bound > van_trees(dfil, float((SPREAD**-2).mean()))
    if sigma == 5.0:
        assert done.mse < 0.5 / dfil  # a biased attacker far below 1/dFIL


def test_bounds_of_large_inputs_take_few_victims_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = Finished(tmp_path, 0.5, 1.0)
    monkeypatch.setattr("wireleak.lab.steps.bounds._LARGE", D - 1)
    rows = done.rows()
    assert {row.n for row in rows if row.measure == "dfil"} == {60}
    assert {row.n for row in rows if row.measure == "reid"} == {VICTIMS}
    assert not [row for row in rows if row.name == VAN_TREES]


@pytest.mark.parametrize("mu", [1.0, 6.0, 60.0])
def test_the_informed_attacker_stays_under_the_bounds(tmp_path: Path, mu: float) -> None:
    clip = 1.0
    done = Finished(tmp_path, 2 * clip / mu, clip)
    rows = done.rows()
    ball, two = (value(rows, "candidates", "reid", name) for name in (BALL, TWO_INPUTS))
    assert done.named <= ball + 3 * math.sqrt(ball * (1 - ball) / VICTIMS)
    assert ball < two or mu == 60
    assert value(rows, "inversion", "reid", BALL) == ball
    lower, proved = (value(rows, "candidates", "wire-epsilon", name) for name in ("", PROVED))
    assert lower <= proved == pytest.approx(epsilon_of(mu, 1e-5))
    if mu == 60:
        assert done.named > 0.5 and lower > 5


@pytest.mark.parametrize("epsilon", [1.0, 8.0, 400.0])
def test_the_informed_attacker_of_laplace_noise_stays_under_its_bounds(tmp_path: Path, epsilon: float) -> None:
    clip = 2.0
    done = Finished(tmp_path, 2 * clip / epsilon, clip, norm=1)
    with np.load(write_candidates(done.cell)) as granted:
        assert (granted["norm"], granted["clip"]) == (1, clip)
    rows = done.rows()
    ball, two = (value(rows, "candidates", "reid", name) for name in (BALL, TWO_INPUTS))
    assert two == pytest.approx(math.exp(epsilon) / (VICTIMS - 1 + math.exp(epsilon)))
    assert ball == pytest.approx(min(1, math.exp(epsilon / 2) / VICTIMS)) and ball <= two
    assert done.named <= ball + 3 * math.sqrt(ball * (1 - ball) / VICTIMS)
    lower, proved = (value(rows, "candidates", "wire-epsilon", name) for name in ("", PROVED))
    assert lower <= proved == pytest.approx(epsilon)
    if epsilon == 400:
        assert done.named > 0.5 and lower > 5


@pytest.mark.parametrize("clip", [None, 1e3])
def test_noise_on_the_input_bounds_what_anybody_can_compute_from_it(tmp_path: Path, clip: float | None) -> None:
    """Oracle: the posterior variance of Gaussian inputs whose every value was seen through noise; no encoder enters."""
    sigma = 0.5
    done = Finished(tmp_path, sigma, clip)
    changed = [{"name": "input-noise", "options": step["options"]} for step in noise(sigma, clip)]
    declared = study(changed)
    cell = Cell(declared, declared.variants[0], 0, tmp_path, (D,), 2, Seeds(bytes(32)))
    assert noise_of(cell) == WireNoise(sigma, clip, on_input=True)
    with np.load(write_candidates(cell)) as granted:
        assert set(granted) == {"x"}  # activations are not clipped
    rows = companion_rows(cell, [AttackJob(cell, use, "input") for use in declared.attacks])
    assert value(rows, "inversion", "dfil", UNBIASED) == pytest.approx(1 / sigma**2, rel=1e-4)
    posterior = (1 / (SPREAD**-2 + sigma**-2)).mean()
    assert value(rows, "inversion", "mse", VAN_TREES) == pytest.approx(posterior, rel=0.05)
    assert done.mse > posterior  # the encoder keeps 12 of 16 values
    if clip is not None:
        proved = value(rows, "candidates", "wire-epsilon", PROVED)
        assert proved == pytest.approx(epsilon_of(2 * clip / sigma, 1e-5))


def test_an_audit_tests_noise_on_inputs_and_replaced_words_too(tmp_path: Path) -> None:
    def promise(*transforms: Any) -> Any:
        declared = study(list(transforms))
        return promise_of(Cell(declared, declared.variants[0], 0, tmp_path, (D,), 2, Seeds(bytes(32))))

    noised = {"name": "input-noise", "options": {"clip": 3.0, "sigma": 2.0}}
    assert promise(noised) == two_points.Noise(2, 2.0, 3.0)
    assert promise({"name": "input-laplace", "options": {"clip": 3.0, "epsilon": 2.0}}) == two_points.Noise(1, 3.0, 3.0)
    assert promise({"name": "word-response", "options": {"epsilon": 2.0, "words": 50}}) == Response(2.0, 50)
    assert promise({"name": "input-noise", "options": {"sigma": 2.0}}) is None
    assert promise(noised, *noise(1.0, 1.0)) is None


def test_laplace_noise_without_a_clip_has_fisher_s_bounds_alone(tmp_path: Path) -> None:
    scale = 0.5
    done = Finished(tmp_path, scale, norm=1)
    rows = done.rows()
    assert not {row.measure for row in rows} & {"wire-epsilon", "reid"}
    # Fisher's information about a Laplace variable's centre is 1 / b^2, twice that of a Gaussian of its variance.
    grid = np.linspace(1e-6, 40 * scale, 400_001)
    score = np.gradient(-grid / scale, grid)
    told = 2 * np.trapezoid(score**2 * np.exp(-grid / scale) / (2 * scale), grid)
    dfil = (done.weights**2).sum() / D * told
    assert value(rows, "inversion", "dfil", UNBIASED) == pytest.approx(dfil, rel=1e-4)
    assert done.mse > value(rows, "inversion", "mse", VAN_TREES)


@pytest.mark.parametrize("later", ["requantise", "quantise", "dropout", "noise", "laplace", "metric-privacy"])
def test_what_only_processes_a_noised_message_keeps_its_bounds(tmp_path: Path, later: str) -> None:
    chain = [*noise(1.0, 1.0), {"name": later, "options": {}}]
    declared = study(chain)
    assert noise_of(Cell(declared, declared.variants[0], 0, tmp_path, (D,), 2, Seeds(bytes(32)))) == WireNoise(1.0, 1.0)
    declared = study([{"name": later, "options": {}}, *noise(1.0, 1.0)] if later not in ("noise", "laplace") else [])
    assert noise_of(Cell(declared, declared.variants[0], 0, tmp_path, (D,), 2, Seeds(bytes(32)))) is None


def test_candidates_are_all_victims_inputs_once_with_the_public_clip(tmp_path: Path) -> None:
    done = Finished(tmp_path, 1.0, 2.5)
    with np.load(write_candidates(done.cell)) as granted:
        assert granted["clip"] == 2.5
        assert {row.tobytes() for row in granted["x"]} == {row.tobytes() for row in done.x}
        assert len(granted["x"]) == VICTIMS and not np.array_equal(granted["x"], done.x)


def test_without_a_clip_no_epsilon_is_printed_and_no_robustness_claimed(tmp_path: Path) -> None:
    rows = Finished(tmp_path, 0.5).rows()
    assert rows and not {row.measure for row in rows} & {"wire-epsilon", "reid"}


def test_what_no_bound_covers_has_none(tmp_path: Path) -> None:
    assert not Finished(tmp_path / "tls", 1.0, 1.0, link="tls").rows()
    done = Finished(tmp_path / "plain", 1.0, 1.0)
    covert = {"name": "covert", "options": {}}
    for transforms, expected in (([], False), ([covert], False), ([*noise(1.0, 1.0), covert], False), (None, True)):
        declared = study(noise(1.0, 1.0) if transforms is None else transforms)
        cell = Cell(declared, declared.variants[0], 0, tmp_path / "plain", (D,), 2, Seeds(bytes(32)))
        jobs = [AttackJob(cell, use, "input") for use in declared.attacks]
        assert bool(companion_rows(cell, jobs)) is expected
        assert not companion_rows(cell, [AttackJob(cell, use, "digit") for use in declared.attacks])
    assert done.rows()


def test_noise_that_is_not_the_attackers_data_makes_no_prior(tmp_path: Path) -> None:
    rows = Finished(tmp_path, 1.0, queries="noise").rows()
    assert any(row.name == UNBIASED for row in rows) and not any(row.name == VAN_TREES for row in rows)


def test_wide_encoder_of_pictures(tmp_path: Path) -> None:
    """200 numbers on the wire: estimated rather than exact; the prior is fitted without the transformed copies."""
    declared = study(noise(0.5, 4.0), model="wide-of-a-test")
    cell = Cell(declared, declared.variants[0], 0, tmp_path, (1, 6, 6), 2, Seeds(bytes(32)))
    for path in (cell.checkpoints, cell.ledger.parent, cell.surrogate.parent):
        path.mkdir(parents=True)
    save_weights(build("wide-of-a-test", (1, 6, 6), 2, 0).split(1)[0], cell.checkpoints / "encoder-2.safetensors")
    rng = np.random.default_rng(0)
    own = np.concatenate([rng.random((400, 1, 6, 6)), 100 * rng.random((400, 1, 6, 6))]).astype(np.float32)
    np.savez(cell.ledger, x=rng.random((8, 1, 6, 6), np.float32))
    np.savez(cell.surrogate, x=own, augmented=np.arange(800) >= 400)
    rows = companion_rows(cell, [AttackJob(cell, declared.attacks[0], "input")])
    guide = value(rows, "inversion", "mse", VAN_TREES)
    assert 0 < guide < 1 / 12 * 1.05  # below the variance of uniform pixels
    assert all(math.isfinite(row.value) and row.value > 0 for row in rows)


# Acceptance test 14


@pytest.fixture
def printed(tmp_path: Path) -> Any:
    """A run with a learnt decoder beside 1/dFIL, and the number as each place writes it."""
    done = Finished(tmp_path, 5.0, 3.0)
    shared = {"study": "bounds", "variant": "noised", "seed": 0, "link": "plaintext", "vantage": "gateway"}
    own = [
        Row(
            **shared,
            attack="inversion",
            target="input",
            measure="mse",
            value=v,
            low=v * 0.9,
            high=v * 1.1,
            n=9,
            role="baseline" if c else "attack",
            name=c,
        )
        for v, c in ((0.9, ""), (1.5, "mean"))
    ]
    rows = own + done.rows()
    results = Results(study="bounds", created="2026-01-01T00:00:00", command="wireleak run bounds", rows=rows)
    bound = value(rows, "inversion", "mse", UNBIASED)
    assert bound > 3  # the decoder is far below it
    return results, bound, tmp_path


def test_the_words_of_the_bound_say_unbiased_only() -> None:
    words = reference(UNBIASED)
    assert "unbiased only" in words.label and "unbiased only" in words.meaning
    speaks: list[Reference | Quantity] = [c for c in KNOWN if "1/dFIL" in c.label + c.meaning]
    speaks += [m for m in [*REPORTED.values(), *MEASURES.all().values()] if "1/dFIL" in m.label + m.meaning]
    assert speaks == [words]


def test_csv_and_json_say_unbiased_only_in_the_rows_that_hold_it(printed: Any) -> None:
    results, bound, folder = printed
    write_results(results, folder)
    lines = [line for line in (folder / "results.csv").read_text().splitlines() if repr(bound) in line]
    assert lines and all("unbiased only" in line for line in lines)
    held = [row for row in json.loads((folder / "results.json").read_text())["rows"] if row["value"] == bound]
    assert held and all("unbiased only" in row["name"] for row in held) and all(row["role"] == "bound" for row in held)


def test_the_report_says_unbiased_only_wherever_the_number_stands(printed: Any) -> None:
    results, bound, _ = printed
    html = page(results)
    forms = (f"{bound:.4f}", f"{bound:.6g}")
    rows = [row for row in re.findall(r"<tr.*?</tr>", html, re.S) if any(form in row for form in forms)]
    assert len(rows) >= 2 and all("unbiased only" in row for row in rows)
    # Nowhere but in those rows and in sentences that say it.
    rest = re.sub(r"<tr.*?</tr>", "", html, flags=re.S)
    for form in forms:
        for at in (found.start() for found in re.finditer(re.escape(form), rest)):
            assert "unbiased only" in rest[max(0, at - 80) : at]
    assert all("unbiased only" in rest[at.start() : at.start() + 400] for at in re.finditer("1/dFIL", rest))


def test_the_finding_says_it_too_and_calls_a_bound_no_baseline(printed: Any) -> None:
    results, bound, _ = printed
    (said,) = [text for one in findings(results) for text in one.detail if "dFIL" in text]
    assert f"1/dFIL (unbiased only), MSE {bound:.4f}: exceeded by the attack" in said
    assert "van Trees bound (Gaussian inputs)" in said and "clearly worse" not in said


def test_the_results_table_of_the_docs_says_it(printed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    results, bound, _ = printed
    monkeypatch.syspath_prepend(str(Path(__file__).parents[4] / "docs"))
    module = importlib.import_module("make_results")
    lines = [line for line in module.scores(results) if f"{bound:.4f}" in line]
    assert lines and all("unbiased only" in line[module.SCORES.index("name")] for line in lines)


def test_encoders_that_cannot_be_differentiated_get_no_fisher_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Finished(tmp_path, 1.0, 1.0)
    monkeypatch.setattr("torch.nn.Linear.forward", lambda self, x: torch.round(x)[:, :K])
    assert {row.measure for row in done.rows()} == {"reid", "wire-epsilon"}
