"""Common parts of the attacks on membership: the records, the captured models, and the confidence in a label."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.threat import Vantage
from adversary.attacks.harness.training import Seen, Update
from wireleak.common.traffic import ALL

if TYPE_CHECKING:
    from torch import nn

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
State = Mapping[str, npt.NDArray[Any]]
Unit = Literal["record", "group"]
# Models can be asked about a record wherever they are seen, and also once they are released.
ANYWHERE = (Vantage.LINK, Vantage.SERVER, Vantage.PARTICIPANT, Vantage.MALICIOUS_PARTICIPANT, Vantage.RELEASE)
UNIT = "group: score people by the mean over their records; the records must name people."
_OPTIONAL = ("group", "client")
_CHUNK = 512


@dataclass(frozen=True)
class Records:
    """The records about which an attack asks whether they were trained on.

    Parameters
    ----------
    x, y : arrays of shapes (n, ...) and (n,)
        Inputs and labels.
    people : int64 (n,) or None
        The person of each record, where people are scored.
    clients : int64 (n,) or None
        For each record the client in question; None where it may be any client.
    """

    x: Array
    y: Ints
    people: Ints | None
    clients: Ints | None

    def of(self, values: Doubles, senders: Collection[int]) -> Doubles:
        """Return each record's value (n,) under its own client's model, of values (models, n) by their `senders`.

        Where the client is not named, or its model was not seen, the largest counts.
        """
        chosen: Doubles = values.max(0)
        for place, sender in enumerate(senders if self.clients is not None else ()):
            chosen = np.where(self.clients == sender, values[place], chosen)
        return chosen

    def confidence(self, blocks: nn.Module, models: Mapping[int, State]) -> Doubles:
        """Return the log-odds (n,) of each record's own label, as `of` chooses them among the senders' models."""
        return self.of(confidence(blocks, list(models.values()), self.x, self.y), models)

    def probabilities(self, score: Doubles) -> Array:
        """Turn scores (n,) that rank members high into the guess (n, 2)."""
        return probabilities(score, self.people)


def records(knowledge: Knowledge, unit: Unit = "record") -> Records:
    """Read the granted records; their people are kept only if `unit` says that people are scored.

    Raises
    ------
    ValueError
        The records are not granted, the file lacks an array, or they name no people.
    """
    path = knowledge.files.get("records")
    if path is None:
        raise ValueError(
            "granted.files.records: is missing; give an .npz file with the records whose membership is guessed"
        )
    with np.load(path, allow_pickle=False) as stored:
        if missing := {"x", "y"} - set(stored.files):
            raise ValueError(f"granted.files.records: {path} has no array {min(missing)!r}; add it")
        people, clients = (stored[name].astype(np.int64) if name in stored.files else None for name in _OPTIONAL)
        x, y = stored["x"].astype(np.float32), stored["y"].astype(np.int64)
    if unit == "group" and people is None:
        raise ValueError("options.unit: the records name no people; set data.disjoint_by, or set unit = record")
    return Records(x, y, people if unit == "group" else None, clients)


def last_models(seen: Seen) -> dict[int, State]:
    """Return each sender's model of the last round, or the last global model if no matching update was seen."""
    usable = [one for one in seen.updates if fits(one)]
    if not usable:
        return {ALL: seen.models[max(seen.models)]}
    last = max(one.round for one in usable)
    return {one.sender: one.end for one in usable if one.round == last}


def fits(update: Update) -> bool:
    """Return whether an update has the layers and shapes of the global model at its start."""
    ends, starts = ({name: array.shape for name, array in one.items()} for one in (update.end, update.start))
    return ends == starts


def confidence(blocks: nn.Module, states: Sequence[State], x: Array, y: Ints) -> Doubles:
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
