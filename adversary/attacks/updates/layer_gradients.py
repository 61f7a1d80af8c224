"""An attacker's own updates, layer by layer, with the examples behind each, to judge the layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.pace import shown
from adversary.attacks.updates.imitation import Imitation
from adversary.attacks.updates.update_features import features

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LayerGradients:
    """The attacker's own updates, n in all.

    Parameters
    ----------
    layers : dict of str to array
        Float32 (n, weights) by layer, in the network's order: each update's part, scaled to length 1.
    features : dict of str to array
        Float32 (n, d) by layer: see `update_features.features`; d is 0 for a layer that is skipped.
    values : int64 (n,)
        The property's value behind each update.
    pools : int64 (n,)
        The part of the attacker's examples behind each update: no example, and no person, is in two parts.
    rounds : int64 (n,)
        The round of the global model at which each update started.
    inputs : float32 (n, *input_shape)
        The mean of the examples behind each update.
    shapes : dict of str to tuple of int
        Shape of each layer's weights.
    """

    layers: dict[str, Array]
    features: dict[str, Array]
    values: Ints
    pools: Ints
    rounds: Ints
    inputs: Array
    shapes: dict[str, tuple[int, ...]]

    def centred(self, layer: str, *labels: Ints) -> Array:
        """Return a layer's rows minus the mean of the rows from the same model (and the same labels).

        An attacker knows the model at the start of an update, and gradients on one model have much in common.
        """
        rows = self.layers[layer].copy()
        _, kind = np.unique(np.stack([self.rounds, *labels]), axis=1, return_inverse=True)
        for each in range(int(kind.max()) + 1):
            rows[kind == each] -= rows[kind == each].mean(0)
        return rows


class _Remembering(Imitation):
    """Records the examples behind the current update."""

    def __init__(self, knowledge: Knowledge, seed: int) -> None:
        super().__init__(knowledge, seed)
        self._drawn: list[Ints] = []

    def mean_input(self) -> Array:
        """Return the mean of the examples drawn since the last call."""
        rows, self._drawn = np.concatenate(self._drawn), []
        mean: Array = self._inputs[rows].mean(0)
        return mean

    def _draw(self, value: int, share: float) -> Ints:
        rows = super()._draw(value, share)
        self._drawn.append(rows)
        return rows


def layer_gradients(
    knowledge: Knowledge, seed: int, rounds: Sequence[int], *, pools: int, repeats: int
) -> LayerGradients:
    """Make updates with and without the property on the models of some rounds, from separate pools of examples.

    Parameters
    ----------
    knowledge : Knowledge
        With examples, an attribute, the architecture, a training and its recipe. Transformed copies are not used.
    seed : int
    rounds : sequence of int
    pools : int
        Number of parts of the attacker's examples, split by person where people are known.
    repeats : int
        Updates per round, pool and value.

    Raises
    ------
    ValueError
        The network has no layer to measure, or a pool lacks a value of the attribute.
    """
    from wireleak.common.measures.readers.gradient_sensitivity import layer_weights

    known, training = knowledge.without_copies(), knowledge.training
    assert training is not None
    shapes = {name: tuple(weight.shape) for name, weight in layer_weights(known.network().blocks).items()}
    if not shapes:
        raise ValueError(
            "model: the network has no convolution and no dense layer, and localise measures only those; take another"
        )
    layers: dict[str, list[Array]] = {name: [] for name in shapes}
    strongest: dict[str, list[Array]] = {name: [] for name in shapes}
    made, inputs = [], []
    for number, mask in enumerate(shown(_pools(known, pools, seed), "localise: parts of the examples")):
        maker = _Remembering(known.take(mask), int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))
        for at in rounds:
            for value in maker.values * repeats:
                # A participant sees the mean of all others, and makes such means.
                each = maker.updates(training.models[at], value, 1.0)
                for name in shapes:
                    mean = np.mean([one[name] for one in each], 0)
                    layers[name].append(_unit(mean.ravel()))
                    strongest[name].append(features({name: mean}))
                made.append((value, number, at))
                inputs.append(maker.mean_input())
    values, of, when = np.array(made, np.int64).T
    rows = {name: np.stack(made_of) for name, made_of in layers.items()}
    read = {name: np.stack(made_of) for name, made_of in strongest.items()}
    return LayerGradients(rows, read, values, of, when, np.stack(inputs), shapes)


def _pools(known: Knowledge, count: int, seed: int) -> list[npt.NDArray[np.bool_]]:
    """Return one mask of examples per pool, each with all values; whole persons where people are known."""
    rng, attribute, of = np.random.default_rng([seed, 4]), known.attribute, np.zeros(len(known), np.int64)
    if attribute is None:
        raise ValueError("target: localise needs a private attribute; name one")
    if known.groups is not None:
        kinds = rng.permutation(np.unique(known.groups))
        for number, part in enumerate(np.array_split(kinds, count)):
            of[np.isin(known.groups, part)] = number
    else:
        for value in np.unique(attribute):
            rows = rng.permutation(np.flatnonzero(attribute == value))
            of[rows] = np.arange(len(rows)) % count
    masks = [of == number for number in range(count)]
    if any(len(np.unique(attribute[mask])) < len(np.unique(attribute)) for mask in masks):
        raise ValueError(
            f"options.pools: {count} is too many, because some parts of the examples lack a value; give fewer"
        )
    return masks


def _unit(row: Array) -> Array:
    length = float(np.linalg.norm(row))
    return row / np.float32(length) if np.isfinite(length) and length > 0 else np.zeros_like(row)
