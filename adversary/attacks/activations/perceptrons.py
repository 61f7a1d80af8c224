"""A perceptron of any size that stops where held-out rows do best; it trains on a GPU where torch sees one."""

from __future__ import annotations

import copy
import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from adversary.attacks.harness.knowledge import Array, Knowledge

_MOMENTUM = 0.9
Size = Literal["logistic", "mlp-64", "mlp-300", "mlp-1000x2"]
# Units of the hidden layers, by the names that options use.
SIZES: dict[Size, tuple[int, ...]] = {"logistic": (), "mlp-64": (64,), "mlp-300": (300,), "mlp-1000x2": (1000, 1000)}


def drawn(every: Knowledge, wanted: int | None, seed: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Two masks (n,): `wanted` pairs drawn at random, all of them for None; and the held-out pairs that judge the fit.

    Attackers of few pairs are judged on as many as the others, or the luckiest would look the strongest.

    Raises
    ------
    ValueError
        There are not so many.
    """
    count = len(every)
    if wanted is None:
        return np.ones(count, bool), every.held_out()
    if wanted > count:
        raise ValueError(f"options.examples: {wanted} pairs wanted, {count} were seen; ask for fewer")
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng([seed, 2]).permutation(count)[:wanted]] = True
    return chosen, every.held_out() & ~chosen


class Perceptron:
    """Standardised rows, hidden layers with dropout, softmax; or a sigmoid a class, where several hold at once.

    Parameters
    ----------
    hidden : tuple of int
        Units of each hidden layer; none is logistic regression.
    classes : int
        Number of classes.
    activation : {"tanh", "relu"}
        Of the hidden units.
    dropout : float
        Of the hidden units.
    seed : int
        Of the first weights, dropout and the order of rows.

    Attributes
    ----------
    weights : int
        How many it has.
    epoch : int
        Passes over the rows that the kept weights saw.
    """

    def __init__(self, hidden: tuple[int, ...], classes: int, activation: str, dropout: float, seed: int) -> None:
        self._hidden, self._classes = hidden, classes
        self._activation, self._dropout, self._seed = activation, dropout, seed
        self.weights = self.epoch = 0

    def fit(
        self,
        seen: Array,
        labels: npt.NDArray[np.int64] | Array,
        held: npt.NDArray[np.bool_],
        epochs: int,
        patience: int,
        learning_rate: float,
        batch: int,
    ) -> Perceptron:
        """Minimise the cross-entropy by SGD with momentum and keep the epoch with the least on the rows in `held`.

        Parameters
        ----------
        seen : float32 (n, ...)
            Rows; `held` (bool (n,)) of them only choose the epoch. If none is held, the last epoch counts.
        labels : int64 (n,), or float32 (n, classes)
            Classes; or 1 for each class that holds and 0 for the others, whose binary cross-entropies are summed.
        epochs, patience : int
            Passes at most, and passes without improvement after which it ends.
        """
        import torch
        from torch.nn import functional

        rows = seen.reshape(len(seen), -1)
        self._mean, self._scale = rows[~held].mean(0), rows[~held].std(0) + np.float32(1e-6)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        z = torch.from_numpy(self._standard(rows)).to(self._device)
        y = torch.from_numpy(labels).to(self._device)
        self._several = labels.ndim == 2

        def loss_of(scores: Any, truth: Any) -> Any:
            if not self._several:
                return functional.cross_entropy(scores, truth)
            return functional.binary_cross_entropy_with_logits(scores, truth, reduction="sum") / len(scores)

        train, check = np.flatnonzero(~held), torch.from_numpy(held).to(self._device)
        with torch.random.fork_rng():
            torch.manual_seed(self._seed)
            self._net = self._build(rows.shape[1]).to(self._device)
            if self._several:
                # Most classes seldom hold; starting at their shares leaves only the differences to be learnt.
                share = y[train].mean(0).clamp(1e-4, 1 - 1e-4)
                self._net[-1].bias.data = share.logit()
            self.weights = sum(parameter.numel() for parameter in self._net.parameters())
            optimiser = torch.optim.SGD(self._net.parameters(), lr=learning_rate, momentum=_MOMENTUM)
            order = np.random.default_rng(self._seed)
            best, kept = math.inf, None
            for epoch in range(1, epochs + 1):
                self._net.train()
                for chosen in np.array_split(order.permutation(train), math.ceil(len(train) / batch)):
                    optimiser.zero_grad(set_to_none=True)
                    loss_of(self._net(z[chosen]), y[chosen]).backward()
                    optimiser.step()
                self._net.eval()
                with torch.inference_mode():
                    loss = float(loss_of(self._net(z[check]), y[check])) if held.any() else -epoch
                if loss < best:
                    best, kept, self.epoch = loss, copy.deepcopy(self._net.state_dict()), epoch
                elif epoch - self.epoch >= patience:
                    break
            self._net.load_state_dict(kept or self._net.state_dict())
        return self

    def guess(self, seen: Array) -> Array:
        """Probabilities, float32 (n, classes)."""
        import torch

        rows = torch.from_numpy(self._standard(seen.reshape(len(seen), -1))).to(self._device)
        with torch.inference_mode():
            scores = self._net(rows)
            likely = scores.sigmoid() if self._several else scores.softmax(1)
            return np.asarray(likely.cpu().numpy(), np.float32)

    def _standard(self, rows: Array) -> Array:
        return np.asarray((rows - self._mean) / self._scale, np.float32)

    def _build(self, width: int) -> Any:
        from torch import nn

        layers: list[nn.Module] = []
        for units in self._hidden:
            activation = nn.Tanh() if self._activation == "tanh" else nn.ReLU()
            layers += [nn.Linear(width, units), activation, nn.Dropout(self._dropout)]
            width = units
        return nn.Sequential(*layers, nn.Linear(width, self._classes))
