"""One layer's leakage: how much its gradients reveal about a property and the input, each with its null."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.updates.layer_gradients import LayerGradients

if TYPE_CHECKING:
    from wireleak.common.measures.readers.usable_information import UsableInformation

Doubles = npt.NDArray[np.float64]
EQUAL = 512
COMPONENTS = 10


def reading(made: LayerGradients, layer: str, seed: int, **options: Any) -> UsableInformation | None:
    """Measure a layer's V-information about the property, cross-fitted over pools; None if it has no features."""
    from wireleak.common.measures.readers.usable_information import usable_information

    rows = made.features[layer]
    if not rows.shape[1] or not np.ptp(rows, axis=0).any():
        return None
    return usable_information(rows, made.values, groups=made.pools, seed=seed, **options)


def auc(read: UsableInformation) -> float:
    """Return the AUC of the cross-fitted guesses, each value against the rest, mean over values."""
    from sklearn.metrics import roc_auc_score

    evidence, labels = read.reading.evidence, read.reading.labels
    present = np.unique(labels)
    wanted = present[1:] if len(present) == 2 else present
    return float(np.mean([roc_auc_score(labels == value, evidence[:, value]) for value in wanted]))


def layer_profile(
    made: LayerGradients, layer: str, basis: tuple[Doubles, Doubles], *, permutations: int, seed: int
) -> dict[str, Any]:
    """Measure a layer's leakage, except its sensitivity.

    V-information is that of the layer's features, in bits; "equalised" projects them at random to 512 dimensions. The
    subspace distance is chordal, between gradients with and without the property, minus the mean of each kind on each
    model. Original information is the share of the variance of the mean input's leading components that a linear reader
    predicts from the whole gradient, minus its model's mean. Nulls are means over permutations (for the subspace: over
    halves).

    Parameters
    ----------
    made : LayerGradients
    layer : str
    basis : pair of arrays
        Mean input (d,) and principal directions (d, 10).
    permutations, seed : int
    """
    from wireleak.common.measures.readers.readout import linear_readout
    from wireleak.common.measures.readers.subspace import subspace_shift

    found: dict[str, Any] = {"features": made.features[layer].shape[1]}
    full = reading(made, layer, seed, permutations=permutations)
    equal = full
    if made.features[layer].shape[1] > EQUAL:
        equal = reading(made, layer, seed, permutations=permutations, dimension=EQUAL)
    for name, null, read in (("v_information", "v_null", full), ("v_equalised", "v_equalised_null", equal)):
        drawn = [draw.bits for draw in read.null] if read else []
        found |= {name: read.bits if read else None, null: _mean(drawn), f"{null}_high": max(drawn, default=None)}
    found |= {"v_share": full.share, "family": full.family, "auc": auc(full)} if full else {"auc": None}
    having, rows = made.values > 0, made.centred(layer, made.values)
    shift = subspace_shift(rows[having], rows[~having], seed=seed)
    found |= {"subspace": shift.chordal, "subspace_null": shift.null}
    centre, directions = basis
    targets = (made.inputs.reshape(len(made.inputs), -1) - centre) @ directions
    original = linear_readout(made.centred(layer), targets, made.pools, permutations=permutations, seed=seed)
    highest = max(original.null, default=None)
    return found | {
        "original": original.share,
        "original_null": _mean(original.null),
        "original_null_high": highest,
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def layer_sensitivity(
    knowledge: Knowledge, layers: Iterable[str], *, probes: int, draws: int, seed: int
) -> dict[str, dict[str, float]]:
    """Measure how sensitive each layer's gradient of the last global model is to the output and to the input.

    Parameters
    ----------
    knowledge : Knowledge
    layers : iterable of str
    probes : int
        Number of the attacker's examples at which it is measured.
    draws : int
        Random directions per example (Hutchinson).
    seed : int
    """
    import torch

    from wireleak.common.measures.readers.gradient_sensitivity import input_sensitivity, output_sensitivity

    known, training = knowledge.without_copies(), knowledge.training
    assert training is not None
    blocks = known.network().blocks.eval()
    last = training.models[max(training.models)]
    blocks.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in last.items()})
    rows = np.random.default_rng([seed, 5]).permutation(len(known))[:probes]
    pair: tuple[Any, Any] = torch.from_numpy(known.inputs[rows]), torch.from_numpy(known.labels[rows])
    by_output = output_sensitivity(blocks, *pair)
    by_input = input_sensitivity(blocks, *pair, draws=draws, seed=seed)
    return {layer: {"sensitivity": by_output[layer], "sensitivity_input": by_input[layer].relative} for layer in layers}
