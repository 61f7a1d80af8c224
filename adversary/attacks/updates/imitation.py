"""Imitated updates: an attacker trains as a client does, on its own examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from adversary.attacks.harness.knowledge import Array, Knowledge

if TYPE_CHECKING:
    from torch import nn

Ints = npt.NDArray[np.int64]


class Imitation:
    """Imitates a client's training, or that of all other clients, on the attacker's examples.

    Parameters
    ----------
    knowledge : Knowledge
        With examples, an attribute, the architecture and the recipe of training. Transformed copies are not used.
    seed : int
    by_group : bool
        Whether to draw the examples of one value from one person.

    Attributes
    ----------
    values : list of int
        Values of the attribute, 0 first.
    shapes : dict of str to tuple of int
        Shapes of the network's layers.
    person : int or None
        With `by_group`: whose examples had the value in the last call of `updates`.

    Raises
    ------
    ValueError
        There is no recipe or network, the attribute does not vary, or `by_group` is set and no people are known.
    """

    def __init__(self, knowledge: Knowledge, seed: int, *, by_group: bool = False) -> None:
        own, recipe = knowledge.without_copies(), knowledge.recipe
        if own.attribute is None or recipe is None:
            raise ValueError(
                "target: imitating a client's training needs a private attribute and the training settings; give both"
            )
        if by_group and own.groups is None:
            raise ValueError(
                "options.by_group: the attacker's examples name no people; set data.disjoint_by, or remove by_group"
            )
        self.values: list[int] = np.unique(own.attribute).tolist()
        if self.values[0] != 0 or len(self.values) < 2:
            raise ValueError(f"target: the examples' values are {self.values}; grant examples of 0 and another value")
        self._inputs, self._labels, self._attribute = own.inputs, own.labels, own.attribute
        self._groups = own.groups if by_group else None
        self.person: int | None = None
        self._recipe = recipe
        self._rng = np.random.default_rng([seed, 2])
        self._trains = self._part(own)
        self.shapes = {name: tuple(value.shape) for name, value in self._trains.state_dict().items()}

    def updates(self, start: Mapping[str, npt.NDArray[Any]], value: int, share: float) -> list[dict[str, Array]]:
        """Train a model on examples of which a share has `value` and the others 0, and return the changes.

        Parameters
        ----------
        start : mapping of str to array
            The global model, by layer.
        value : int
        share : float
            In [0, 1]; unless it is 0, at least one example has the value.

        Returns
        -------
        list of dict of str to array
            Float32 by layer; layers of integers are left out. One update, or, if the attacker is a participant, every
            other participant's: one of them has such examples, and the others have only examples of value 0.
        """
        others = 1 if self._recipe.own is None else self._recipe.participants - 1
        first, rows = self._trained(start, value, share)
        self.person = None if self._groups is None else int(self._groups[rows[0]])
        return [first] + [self._trained(start, 0, 0.0)[0] for _ in range(others - 1)]

    def _trained(
        self, start: Mapping[str, npt.NDArray[Any]], value: int, share: float
    ) -> tuple[dict[str, Array], Ints]:
        """Return the changes of a model that trained on drawn examples, and their rows."""
        import torch

        self._trains.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in start.items()})
        order = (int(self._rng.integers(2**31)),)
        rows = self._draw(value, share)
        self._train(self._inputs[rows], self._labels[rows], order)
        ends = {name: after.numpy() for name, after in self._trains.state_dict().items()}
        return {name: end - start[name] for name, end in ends.items() if end.dtype.kind == "f"}, rows

    def _part(self, known: Knowledge) -> nn.Module:
        """Return the part of the network that a client trains and sends."""
        return known.network().blocks

    def _train(self, inputs: Array, labels: Ints, seed: tuple[int, ...]) -> None:
        """Train that part in place as a client does in one round."""
        self._recipe.imitate(self._trains, inputs, labels, seed)

    def _draw(self, value: int, share: float) -> Ints:
        count = max(1, round(share * self._recipe.examples)) if value else 0
        return np.concatenate([self._some(value, count), self._some(0, self._recipe.examples - count)])

    def _some(self, value: int, count: int) -> Ints:
        pool = np.flatnonzero(self._attribute == value)
        if count and self._groups is not None:
            person = self._rng.choice(np.unique(self._groups[pool]))
            pool = pool[self._groups[pool] == person]
        return self._rng.choice(pool, count, replace=count > len(pool))
