"""Shadow trainings: the attacker simulates the whole federated training, on examples that it chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.training import Recipe
from adversary.attacks.updates.members import Ints, Records, State
from wireleak.common.traffic import ALL, OTHERS

Mask = npt.NDArray[np.bool_]
Shard = tuple[Array, Ints]


class Shadows:
    """Trains shadows by the public recipe: the same clients, rounds, epochs and, if there are enough, examples.

    A shadow starts from the first global model if that was seen, else from weights of its own. DP-SGD of the clients is
    imitated, with noise of its own. Streams of new examples in every round are not: shadows keep their shards. Noise
    that the server or a mod adds to updates is not imitated either.

    Parameters
    ----------
    knowledge : Knowledge
        With the captured training and its recipe.
    seed : int

    Attributes
    ----------
    own : Knowledge
        The attacker's own examples.
    each, size : int
        Examples of one client, and of all clients together.

    Raises
    ------
    ValueError
        There is not one example for each client.
    """

    def __init__(self, knowledge: Knowledge, seed: int) -> None:
        self._seen, self._recipe = knowledge.trained()
        self._knowledge, self._seed, self._blocks = knowledge, seed, knowledge.network().blocks
        self.own = knowledge.without_copies()
        clients = self._recipe.participants
        self.each = min(self._recipe.examples, len(self.own) // clients)
        self.size = clients * self.each
        if not self.size:
            raise ValueError(
                f"granted.surrogate: {len(self.own)} examples are too few for {clients} clients; grant more"
            )

    def train(self, number: int, inputs: Array, labels: Ints) -> dict[int, State]:
        """Train shadow `number`, whose clients hold equal parts of the examples, in their order.

        Returns
        -------
        dict of state
            The models that the attacker would see from its vantage, by sender: the clients' last ones, the others'
            mean, or the released model.
        """
        seen, parts = self._seen, np.arange(len(inputs)).reshape(self._recipe.participants, -1)
        shards = [(inputs[part], labels[part]) for part in parts]
        start = seen.models[1] if 1 in seen.models and seen.updates else self._fresh(self._seed + 1 + number)
        final, ends = federated(self._blocks, start, shards, self._recipe, (self._seed, number))
        return _as_seen(final, ends, sorted({one.sender for one in seen.updates}), self._recipe)

    def groups(self, asked: Records) -> list[Ints]:
        """Return the rows of the records that are asked about each client; one group where no client is named."""
        if asked.clients is None:
            return [np.arange(len(asked.x))]
        return [np.flatnonzero(asked.clients == client) for client in range(self._recipe.participants)]

    def mixed(self, asked: Records, inside: Mask, rng: np.random.Generator) -> Shard:
        """Draw one shadow's examples from the attacker's own, and put the records `inside` (n,) in the place of some.

        A record becomes an example of the client that it is asked about.
        """
        groups = self.groups(asked)
        own = rng.permutation(len(self.own))[: self.size].reshape(len(groups), -1)
        parts = []
        for group, rows in zip(groups, own, strict=True):
            held = group[inside[group]]
            rest, order = self.own.take(rows[len(held) :]), rng.permutation(len(rows))
            parts.append(
                (
                    np.concatenate([asked.x[held], rest.inputs])[order],
                    np.concatenate([asked.y[held], rest.labels])[order],
                )
            )
        inputs, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
        return inputs, labels

    def _fresh(self, seed: int) -> State:
        assert self._knowledge.model is not None
        blocks = self._knowledge.model.model_copy(update={"seed": seed}).network().blocks
        return {name: value.numpy() for name, value in blocks.state_dict().items()}


def federated(
    blocks: Any, start: State, shards: Sequence[Shard], recipe: Recipe, seed: tuple[int, int]
) -> tuple[State, list[State]]:
    """Train one shadow; return the last global model and each client's model of the last round."""
    import torch

    ends: list[State] = []
    for number in range(1, recipe.plan.rounds + 1):
        ends = []
        for place, (inputs, labels) in enumerate(shards):
            blocks.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in start.items()})
            recipe.imitate(blocks, inputs, labels, (*seed, number, place))
            ends.append({name: value.numpy().copy() for name, value in blocks.state_dict().items()})
        start = _mean(ends)
    return start, ends


def _as_seen(final: State, ends: list[State], senders: list[int], recipe: Recipe) -> dict[int, State]:
    """Return the models of a shadow training that the attacker would see from its vantage, by sender."""
    if not senders:
        return {ALL: final}
    if senders == [OTHERS]:
        return {OTHERS: _mean([end for place, end in enumerate(ends) if place != recipe.own])}
    return {place: end for place, end in enumerate(ends) if place in senders}


def _mean(states: list[State]) -> State:
    return {name: np.mean([one[name] for one in states], 0).astype(value.dtype) for name, value in states[0].items()}
