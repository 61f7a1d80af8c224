"""A perceptron of any size that stops where held-out rows do best; it trains on a GPU where torch sees one."""

from __future__ import annotations

import copy
import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from adversary.attacks.harness.knowledge import Array, Knowledge
from wireleak.common.standard import divisors

_MOMENTUM = 0.9
Size = Literal["logistic", "mlp-64", "mlp-300", "mlp-1000x2"]
# Units of the hidden layers, by the names that options use.
SIZES: dict[Size, tuple[int, ...]] = {"logistic": (), "mlp-64": (64,), "mlp-300": (300,), "mlp-1000x2": (1000, 1000)}


def drawn(every: Knowledge, wanted: int | None, seed: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return two masks (n,): `wanted` random pairs to train on (None: all), and the held-out pairs for validation.

    Attackers with few pairs validate on as many as the others; otherwise the luckiest would look the strongest.

    Raises
    ------
    ValueError
        There are fewer pairs than `wanted`.
    """
    count = len(every)
    if wanted is None:
        return np.ones(count, bool), every.held_out()
    if wanted > count:
        raise ValueError(f"options.examples: {wanted} is more than the {count} captured pairs; give fewer")
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng([seed, 2]).permutation(count)[:wanted]] = True
    return chosen, every.held_out() & ~chosen


class Perceptron:
    """A perceptron on standardised rows: hidden layers with dropout, then softmax, or one sigmoid per class.

    Parameters
    ----------
    hidden : tuple of int
        Units of each hidden layer; none is logistic regression.
    classes : int
        Number of classes.
    activation : {"tanh", "relu"}
        Activation function of the hidden units.
    dropout : float
        Dropout of the hidden units.
    seed : int
        Seed of the initial weights, dropout and the order of rows.

    Attributes
    ----------
    weights : int
        Number of weights.
    epoch : int
        Number of passes after which the kept weights were taken.
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
            Rows; those in `held` (bool (n,)) only choose the epoch. Without held-out rows, the last epoch is kept.
        labels : int64 (n,), or float32 (n, classes)
            Classes; or 1 for each class that applies and 0 for the others: then binary cross-entropies are summed.
        epochs, patience : int
            Largest number of passes, and passes without improvement after which training stops.
        """
        import torch
        from torch.nn import functional

        from adversary.attacks.harness.device import best_device

        rows = seen.reshape(len(seen), -1)
        fitting = rows[~held]
        self._mean, self._scale = fitting.mean(0), divisors(fitting.std(0), len(fitting))
        self._device = best_device()
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
                # Most classes are rare; biases that start at their shares leave only the differences to learn.
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
        """Return probabilities, float32 (n, classes)."""
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
