"""Compute the features of the last round's global model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wireleak.lab.data.dataset import Floats, Ints
from wireleak.lab.features.separation import Rows, UnmeasuredError
from wireleak.lab.run.cell import Cell

_BATCH = 256


def features_of(cell: Cell, rows: Ints, inputs: Callable[[Ints], Floats]) -> Rows:
    """Return the inputs of the last linear layer in evaluation mode, as the strategy steers them.

    Parameters
    ----------
    cell : Cell
    rows : int64 (n,)
    inputs : callable
        Rows of the data set -> float32 (k, *input_shape).

    Returns
    -------
    float32 (n, width)

    Raises
    ------
    UnmeasuredError
        There are no rows, no checkpoint of the last round, no linear layer, or a feature is not finite.
    """
    # A command that names a mistake must not wait for torch.
    import torch

    from wireleak.common.models import build, load_weights
    from wireleak.common.models.features import collected_features, last_linear

    if not len(rows):
        raise UnmeasuredError("no evaluation example is unknown to clients and attacker; raise data.evaluation")
    model = cell.architecture()
    network = build(model["name"], cell.input_shape, cell.classes, 0)
    for part, half in zip(("encoder", "head"), network.split(cell.variant.cut), strict=True):
        path = cell.checkpoint(part, cell.plan.rounds)
        if not path.is_file():
            raise UnmeasuredError(f"{path.relative_to(cell.run)} is missing; remove {cell.name} and resume the run")
        load_weights(half, path)
    last = last_linear(network.blocks)
    if last is None:
        raise UnmeasuredError(f"{network.name} has no linear layer")
    network.blocks.eval()
    with torch.inference_mode(), collected_features(last) as found:
        for batch in np.array_split(rows, -(-len(rows) // _BATCH)):
            network.blocks(torch.from_numpy(inputs(batch)))
    features = torch.cat([one.flatten(1) for one in found]).numpy()
    if not np.isfinite(features).all():
        raise UnmeasuredError("the features are not finite: the training diverged")
    return np.asarray(features, np.float32)
