"""Common parts of the attacks on membership: the records, the captured models, and the confidence in a label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.training import Seen, Update

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
_CHUNK = 512


def records(knowledge: Knowledge) -> tuple[Array, Ints, Ints | None]:
    """Return inputs (n, ...), labels (n,) and, if known, people (n,) of the records whose membership is guessed.

    Raises
    ------
    ValueError
        The records are not granted, or the file lacks an array.
    """
    path = knowledge.files.get("records")
    if path is None:
        raise ValueError(
            "granted.files.records: is missing; give an .npz file with the records whose membership is guessed"
        )
    with np.load(path, allow_pickle=False) as stored:
        if missing := {"x", "y"} - set(stored.files):
            raise ValueError(f"granted.files.records: {path} has no array {min(missing)!r}; add it")
        people = stored["group"].astype(np.int64) if "group" in stored.files else None
        return stored["x"].astype(np.float32), stored["y"].astype(np.int64), people


def last_models(seen: Seen) -> list[Mapping[str, npt.NDArray[Any]]]:
    """Return each sender's model of the last round, or the last global model if no matching update was seen."""
    usable = [one for one in seen.updates if fits(one)]
    if not usable:
        return [seen.models[max(seen.models)]]
    last = max(one.round for one in usable)
    return [one.end for one in usable if one.round == last]


def fits(update: Update) -> bool:
    """Return whether an update has the layers and shapes of the global model at its start."""
    ends, starts = ({name: array.shape for name, array in one.items()} for one in (update.end, update.start))
    return ends == starts


def confidence(blocks: nn.Module, states: Sequence[Mapping[str, npt.NDArray[Any]]], x: Array, y: Ints) -> Doubles:
    """Return the log-odds log(p / (1 - p)) of each record's own label under each state, (states, n).

    They fall as the loss -log(p) rises, and are much closer to a normal distribution (Carlini et al. 2022).
    """
    import torch

    from adversary.attacks.harness.device import best_device

    device = best_device()
    blocks.to(device)
    found = []
    for state in states:
        blocks.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
        blocks.eval()
        with torch.inference_mode():
            parts = [blocks(torch.from_numpy(x[at : at + _CHUNK]).to(device)) for at in range(0, len(x), _CHUNK)]
            answers = torch.cat(parts).double()
            label = torch.from_numpy(y).to(device)[:, None]
            own = answers.gather(1, label)[:, 0]
            odds = own - answers.scatter(1, label, -torch.inf).logsumexp(1)
        found.append(np.nan_to_num(odds.cpu().numpy(), nan=0.0, posinf=1e6, neginf=-1e6))
    blocks.to("cpu")
    return np.stack(found)


def probabilities(score: Doubles, people: Ints | None = None) -> Array:
    """Turn scores (n,) that rank members high into probabilities (n, 2), with half of the records above one half.

    With `people` (n,) a record's score is the mean over its person's records: was this person's data in the training?
    """
    if people is not None:
        _, of_row = np.unique(people, return_inverse=True)
        score = (np.bincount(of_row, score) / np.bincount(of_row))[of_row]
    spread = float(np.subtract(*np.quantile(score, (0.75, 0.25)))) or 1.0
    # Not the logistic function: float32 would make ties of what it tells apart, and low false positive rates need it.
    far = (score - np.median(score)) / spread
    member = 0.5 * (1 + far / (1 + np.abs(far)))
    return np.stack([1 - member, member], 1).astype(np.float32)
