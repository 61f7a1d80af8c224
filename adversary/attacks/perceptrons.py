"""A perceptron of any size that stops where held-out rows do best; it trains on a GPU where torch sees one."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from adversary.attacks.knowledge import Array

_MOMENTUM = 0.9


class Perceptron:
    """Standardised rows, hidden layers with dropout, softmax.

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
        labels: npt.NDArray[np.int64],
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
        labels : int64 (n,)
            Classes.
        epochs, patience : int
            Passes at most, and passes without improvement after which it ends.
        """
        import torch
        from torch.nn.functional import cross_entropy

        rows = seen.reshape(len(seen), -1)
        self._mean, self._scale = rows[~held].mean(0), rows[~held].std(0) + np.float32(1e-6)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        z = torch.from_numpy(self._standard(rows)).to(self._device)
        y = torch.from_numpy(labels).to(self._device)
        train, check = np.flatnonzero(~held), torch.from_numpy(held).to(self._device)
        with torch.random.fork_rng():
            torch.manual_seed(self._seed)
            self._net = self._build(rows.shape[1]).to(self._device)
            self.weights = sum(parameter.numel() for parameter in self._net.parameters())
            optimiser = torch.optim.SGD(self._net.parameters(), lr=learning_rate, momentum=_MOMENTUM)
            order = np.random.default_rng(self._seed)
            best, kept = math.inf, None
            for epoch in range(1, epochs + 1):
                self._net.train()
                for chosen in np.array_split(order.permutation(train), math.ceil(len(train) / batch)):
                    optimiser.zero_grad(set_to_none=True)
                    cross_entropy(self._net(z[chosen]), y[chosen]).backward()  # type: ignore[no-untyped-call]
                    optimiser.step()
                self._net.eval()
                with torch.inference_mode():
                    loss = float(cross_entropy(self._net(z[check]), y[check])) if held.any() else -epoch
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
            return np.asarray(self._net(rows).softmax(1).cpu().numpy(), np.float32)

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
