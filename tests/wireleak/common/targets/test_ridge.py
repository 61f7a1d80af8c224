"""Ridge regression against scikit-learn's, in the primal, in the dual, and in blocks."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from wireleak.common import memory
from wireleak.common.targets import ridge as module
from wireleak.common.targets.ridge import ridge

RNG = np.random.default_rng(0)


def problem(n: Any, width: Any, outputs: Any = 5) -> Any:
    z = RNG.standard_normal((n, width)).astype(np.float32) * RNG.uniform(0.1, 5, width).astype(np.float32) + 3
    x = (z @ RNG.standard_normal((width, outputs)) / width + RNG.standard_normal((n, outputs))).astype(np.float32)
    return z, x


@pytest.mark.parametrize(("n", "width"), [(200, 12), (60, 90)])  # primal, dual
@pytest.mark.parametrize("strength", [1e-3, 1.0])
@pytest.mark.parametrize("block", [2**26, 2**9])
def test_ridge_is_scikit_learns(monkeypatch: Any, n: int, width: int, strength: float, block: int) -> None:
    monkeypatch.setattr(memory, "BLOCK_BYTES", block)
    z, x = problem(n, width)
    held = np.arange(n) < n // 5
    ours = ridge(z, x, held, (strength,))
    scaler = StandardScaler().fit(z[~held].astype(float))
    rows, asked, alpha = (
        scaler.transform(z[~held].astype(float)),
        scaler.transform(z[held].astype(float)),
        strength * (~held).sum(),
    )
    expected = Ridge(alpha=alpha).fit(rows, x[~held]).predict(asked)
    np.testing.assert_allclose(ours.guess(z[held]), expected, rtol=1e-5, atol=1e-5)
    assert ours.error == pytest.approx(np.mean((expected - x[held]) ** 2), rel=1e-5)
    offset = x[~held].mean(0)
    kernel = KernelRidge(alpha=alpha).fit(rows, x[~held] - offset).predict(asked) + offset
    np.testing.assert_allclose(ours.guess(z[held]), kernel, rtol=1e-5, atol=1e-5)


def test_the_dual_gives_what_the_primal_gives(monkeypatch: Any) -> None:
    z, x = problem(150, 40, 30)
    held = np.arange(150) % 6 == 0
    primal = ridge(z, x, held)
    monkeypatch.setattr(module, "BLOCK_BYTES", 64)  # a matrix of features by inputs is then too large
    dual = ridge(z, x, held)
    assert type(primal._equations) is module._Primal and type(dual._equations) is module._Dual
    assert dual.strength == primal.strength and dual.error == pytest.approx(primal.error, rel=1e-9)
    np.testing.assert_allclose(dual.guess(z), primal.guess(z), rtol=1e-5, atol=1e-6)


def test_it_takes_the_strength_that_is_best_on_held_out_rows() -> None:
    z, x = problem(120, 60)
    held = np.arange(120) < 30
    strengths = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    chosen = ridge(z, x, held, strengths)
    errors = [ridge(z, x, held, (strength,)).error for strength in strengths]
    assert chosen.error == pytest.approx(min(errors)) and chosen.strength == strengths[int(np.argmin(errors))]


@pytest.mark.parametrize("width", [6, 70])
def test_without_held_out_rows_and_with_dead_features(width: int) -> None:
    z, x = problem(40, width)
    z[:, 2] = 0
    assert np.isfinite(ridge(z, x, np.zeros(40, bool)).guess(z)).all()


def test_equations_without_a_cholesky_factor_are_solved_all_the_same() -> None:
    gram, goal = np.full((3, 3), 2.0) - 1e-9 * np.eye(3), np.ones((3, 1))
    found = module._solver(gram, 1e-10)(goal)
    np.testing.assert_allclose(gram @ found, goal, rtol=1e-6)


def test_memory_stays_far_below_a_matrix_of_features_by_pixels(monkeypatch: Any) -> None:
    monkeypatch.setattr(memory, "BLOCK_BYTES", 2**21)
    z, x = RNG.standard_normal((80, 20_000), np.float32), RNG.random((80, 3, 64, 64), np.float32)
    tracemalloc.start()
    ridge(z.astype(np.float16), x, np.arange(80) < 16).guess(z[:10])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20 < 4 * z.shape[1] * x[0].size / 50
