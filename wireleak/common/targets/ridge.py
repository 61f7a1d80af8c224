"""Ridge regression from activations to inputs, in blocks: no matrix of features by pixels where features are many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wireleak.common.gpu import product
from wireleak.common.memory import BLOCK_BYTES, blocks

Array = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Matrix = npt.NDArray[Any]
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_MOST = 4096
# Up to so many unknowns the equations are solved in double precision; single precision halves the time of larger ones.
_EXACT = 1024


@dataclass(frozen=True)
class Ridge:
    """A fitted linear decoder.

    Solves `min_W |X - Z W|^2 / n + strength |W|^2` for standardised Z and centred X (Hoerl and Kennard 1970).

    Parameters
    ----------
    strength : float
    error : float
        Mean squared error on the held-out rows, or on the fitting rows where none are held out.
    """

    strength: float
    error: float
    _equations: _Equations
    _solve: Callable[[Matrix], Matrix]

    def guess(self, seen: Array) -> Array:
        """Flattened inputs (n, inputs) from activations (n, ...)."""
        flat = seen.reshape(len(seen), -1)
        found = np.empty((len(flat), len(self._equations.offset)), np.float32)
        for rows in blocks(len(flat), 8 * self._equations.unknowns):
            mixture = self._solve(self._equations.basis(flat[rows], slice(None)).T).T
            for pixels, part in self._equations.predict(mixture):
                found[rows, pixels] = part
        return found


def ridge(seen: Array, inputs: Array, held: Bools, strengths: tuple[float, ...] = _STRENGTHS) -> Ridge:
    """Fit a linear decoder; its strength is the one with the least error on the held-out rows.

    Parameters
    ----------
    seen : numpy.ndarray
        Float32 (n, ...); it may be memory-mapped, or of half precision.
    inputs : numpy.ndarray
        Float32 (n, ...). A decoder for more features than rows refers to them, and copies nothing.
    held : numpy.ndarray
        Bool (n,): rows that only choose the strength.
    strengths : tuple of float
        Candidates in rising order. The search starts in the middle and walks while the error falls.

    Notes
    -----
    Activations wider than 4,096 floats, or than the fitting rows are many, are solved in the dual (Saunders, Gammerman
    and Vovk, ICML 1998), on the first 4,096 rows at most. So are up to 4,096 rows where a matrix of features by inputs
    would take over 256 MiB. Memory is then that of a kernel between rows, and of blocks of 64 MiB.
    """
    z, x = seen.reshape(len(seen), -1), inputs.reshape(len(inputs), -1)
    rows = np.flatnonzero(~held)
    dual = _is_dual(len(rows), z.shape[1], x.shape[1])
    equations = (_Dual if dual else _Primal)(z, x, rows[:_MOST] if dual else rows)
    checks = np.flatnonzero(held) if held.any() else rows
    basis = equations.basis(z, checks).T

    def attempt(strength: float) -> Ridge:
        solve = _solver(equations.gram, strength)
        squares = 0.0
        for pixels, part in equations.predict(solve(basis).T):
            squares += float(np.square(part - x[:, pixels][checks], dtype=np.float64).sum())
        return Ridge(strength, squares / (len(checks) * x.shape[1]), equations, solve)

    start = len(strengths) // 2 - 1 if len(strengths) > 1 else 0
    best = attempt(strengths[start])
    for way in (strengths[:start][::-1], strengths[start + 1 :]):
        before = best
        for strength in way:
            fitted = attempt(strength)
            if not fitted.error < best.error:
                break
            best = fitted
        if best is not before:
            break
    return best


def ridge_memory(rows: int, features: int, inputs: int) -> int:
    """Estimate the memory that a fit takes beyond its arguments: equations, a factor, a copy, and blocks."""
    unknowns = min(rows, _MOST) if _is_dual(rows, features, inputs) else features
    right = 0 if _is_dual(rows, features, inputs) else features * inputs
    return 8 * (3 * unknowns**2 + right) + 3 * BLOCK_BYTES


def _is_dual(rows: int, features: int, inputs: int) -> bool:
    wide = features > min(_MOST, rows)
    return wide or (rows <= _MOST and 8 * features * inputs > 4 * BLOCK_BYTES)


class _Equations:
    """The normal equations in some unknowns, and how an activation's guess follows from their solution.

    Parameters
    ----------
    z, x : (n, features) and (n, inputs)
    rows : int64
        The rows that are fitted.
    unknowns : int
        Features in the primal, fitting rows in the dual.
    """

    def __init__(self, z: Matrix, x: Matrix, rows: npt.NDArray[np.int64], unknowns: int) -> None:
        self._z, self._x, self._rows, self.unknowns = z, x, rows, unknowns
        self.precision = np.dtype(np.float32 if min(len(rows), z.shape[1]) > _EXACT else np.float64)
        self._mean, self._scale = np.empty(z.shape[1], np.float32), np.empty(z.shape[1], np.float32)
        for part in blocks(z.shape[1], 12 * len(rows)):
            values = z[:, part][rows].astype(np.float32, copy=False)
            self._mean[part], self._scale[part] = values.mean(0), values.std(0) + np.float32(1e-6)
        self.offset = np.empty(x.shape[1], np.float32)
        for part in blocks(x.shape[1], 4 * len(rows)):
            self.offset[part] = x[:, part][rows].mean(0)
        self.gram = np.zeros((unknowns, unknowns), self.precision)

    def basis(self, z: Matrix, rows: Any) -> Matrix:
        """Return what multiplies the unknowns, (rows, unknowns), for these rows of activations."""
        raise NotImplementedError

    def predict(self, mixture: Matrix) -> Iterator[tuple[slice, Array]]:
        """Yield the guesses (n, inputs) of solved rows (n, unknowns), a block of inputs at a time."""
        for part in blocks(self._x.shape[1], 2 * self.precision.itemsize * (self.unknowns + len(mixture))):
            yield part, np.asarray(product(mixture, self._goal(part)) + self.offset[part], np.float32)

    def _goal(self, part: slice) -> Matrix:
        """Return the equations' right side, (unknowns, part of the inputs)."""
        raise NotImplementedError

    def _scaled(self, z: Matrix, rows: Any, part: slice = slice(None)) -> Matrix:
        values = z[:, part][rows].astype(np.float32, copy=False)
        scaled: Matrix = (values - self._mean[part]) / self._scale[part]
        return scaled.astype(self.precision, copy=False)

    def _centred(self, rows: npt.NDArray[np.int64], part: slice = slice(None)) -> Matrix:
        centred: Matrix = self._x[:, part][rows] - self.offset[part]
        return centred.astype(self.precision, copy=False)


class _Primal(_Equations):
    """One unknown for each feature."""

    def __init__(self, z: Matrix, x: Matrix, rows: npt.NDArray[np.int64]) -> None:
        super().__init__(z, x, rows, z.shape[1])
        self._goals = np.zeros((z.shape[1], x.shape[1]), self.precision)
        for some in blocks(len(rows), 2 * self.precision.itemsize * (z.shape[1] + x.shape[1])):
            scaled = self._scaled(z, rows[some])
            self.gram += product(scaled.T, scaled)
            self._goals += product(scaled.T, self._centred(rows[some]))
        self.gram /= len(rows)
        self._goals /= len(rows)

    def basis(self, z: Matrix, rows: Any) -> Matrix:
        """Return the standardised features."""
        return self._scaled(z, rows)

    def _goal(self, part: slice) -> Matrix:
        return self._goals[:, part]


class _Dual(_Equations):
    """One unknown for each fitting row: a guess is a mixture of the fitting rows' inputs."""

    def __init__(self, z: Matrix, x: Matrix, rows: npt.NDArray[np.int64]) -> None:
        super().__init__(z, x, rows, len(rows))
        for part in self._parts():
            scaled = self._scaled(z, rows, part)
            self.gram += product(scaled, scaled.T)
        self.gram /= len(rows)

    def basis(self, z: Matrix, rows: Any) -> Matrix:
        """Return the kernel with the fitting rows."""
        kernel = np.zeros((len(z[rows, :0]), self.unknowns), self.precision)
        for part in self._parts():
            kernel += product(self._scaled(z, rows, part), self._scaled(self._z, self._rows, part).T)
        return np.asarray(kernel / self.unknowns)

    def _parts(self) -> Iterator[slice]:
        return blocks(self._z.shape[1], 3 * self.precision.itemsize * self.unknowns)

    def _goal(self, part: slice) -> Matrix:
        return self._centred(self._rows, part)


def _solver(gram: Matrix, strength: float) -> Callable[[Matrix], Matrix]:
    """Return the function that solves `(gram + strength) a = b`."""
    # scipy is imported where it is used: listing attacks and targets costs no import of it.
    from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

    damped = gram.copy()
    damped.flat[:: len(damped) + 1] += strength
    try:
        # Candidates are few: a factorisation of each costs less than one eigendecomposition for all.
        factor = cho_factor(damped, overwrite_a=True, check_finite=False)
    except LinAlgError:
        values, vectors = eigh(gram, check_finite=False)
        inverse = 1 / (np.maximum(values, 0) + strength)
        return lambda goal: np.asarray(vectors @ (inverse[:, None] * (vectors.T @ goal)))
    return lambda goal: np.asarray(cho_solve(factor, goal, check_finite=False))
