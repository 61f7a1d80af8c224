"""What clients trained on, laid out as the attacks on training must guess it: read by the scorer alone.

A *unit* is one update as an attacker sees it: (client, round), or (-1, round) for all but the attacker's own where it
is a participant (client 0), or (-2, round) for the mean of all, which is what a malicious server needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wireleak.common.files import write_arrays
from wireleak.lab.run.cell import Cell
from wireleak.lab.steps import canaries

OTHERS, ALL = -1, -2
PARTICIPANTS = ("participant", "malicious-participant")
MEMBER, SECRET, CANARY = "member", "secret", canaries.CANARY
Arrays = dict[str, npt.NDArray[Any]]


def senders(cell: Cell, target: str) -> list[int]:
    """Clients whose updates are attacked: the honest ones, or the one that hides or holds a secret in its own.

    Whose records these are is asked of clients 1 and on: client 0 may be the one that asks.
    """
    first = 1 if cell.variant.participant or (target == MEMBER and len(cell.clients) > 1) else 0
    return [0] if target in (SECRET, CANARY) else list(range(first, len(cell.clients)))


def units(cell: Cell, vantage: str, target: str) -> list[tuple[int, int]]:
    """(sender, round) of every update that is attacked, by sender and then by round."""
    who = [OTHERS] if vantage in PARTICIPANTS else [ALL] if vantage == "malicious-server" else senders(cell, target)
    return [(sender, number) for sender in who for number in range(1, cell.system.rounds + 1)]


def unit_attribute(cell: Cell, vantage: str, attribute: str) -> npt.NDArray[np.int64]:
    """Each unit's value: whether any example has the property of the study's stream; else what most of them have."""
    stream = cell.study.stream_of(cell.variant)
    any_counts = stream is not None and stream.property == attribute
    values = []
    for sender, number in units(cell, vantage, attribute):
        held = _examples(cell, sender, number, f"attribute:{attribute}")
        values.append(int((held == 1).any()) if any_counts else int(np.bincount(held).argmax()))
    return np.array(values, np.int64)


def unit_inputs(cell: Cell, vantage: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Inputs (n, *input_shape) of each unit, one after the other, and the unit of each (n,)."""
    parts = [_examples(cell, sender, number, "x") for sender, number in units(cell, vantage, "input")]
    return np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def members(cell: Cell) -> npt.NDArray[np.int64]:
    """Whether each granted record was trained on, (n,)."""
    with np.load(cell.folder / "sealed" / "records.npz", allow_pickle=False) as stored:
        found: npt.NDArray[np.int64] = stored["member"]
    return found


def secrets(cell: Cell) -> npt.NDArray[np.float32]:
    """What the malicious participant hides, (n, *input_shape)."""
    with np.load(secret_path(cell), allow_pickle=False) as stored:
        found: npt.NDArray[np.float32] = stored["x"]
    return found


def records_path(cell: Cell) -> Path:
    """Records of which the attacker asks whether they were trained on."""
    return cell.surrogate.with_name("records.npz")


def secret_path(cell: Cell) -> Path:
    """What client 0 hides or plants, in the folder of code of its own."""
    return cell.participant / "secret.npz"


def write_records(cell: Cell) -> None:
    """Write what attacks on membership and malicious participants of this cell need, where there are any."""
    targets = {target for use in cell.study.attacks_on(cell.variant) for target in use.targets}
    if MEMBER in targets:
        _write_members(cell)
    if canaries.plants(cell.variant):
        canaries.write(cell, secret_path(cell))
    elif cell.variant.participant is not None:
        with np.load(cell.folder / cell.clients[0] / "train.npz", allow_pickle=False) as own:
            # Distinct ones, and the first: what is hidden does not depend on how well it hides.
            _, first = np.unique(own["x"], axis=0, return_index=True)
            write_arrays(secret_path(cell), {"x": own["x"][np.sort(first)[: cell.variant.participant.secrets]]})


def _write_members(cell: Cell) -> None:
    by = cell.study.data.disjoint_by
    # What a record is called in the sealed files, by what the attacker is told.
    names = {"x": "x", "y": "y"} | ({} if by is None else {"group": f"group:{by}"})
    trained = {
        told: np.concatenate([_examples(cell, number, None, name) for number in senders(cell, MEMBER)])
        for told, name in names.items()
    }
    _, first = np.unique(trained["x"], axis=0, return_index=True)
    with np.load(cell.ledger, allow_pickle=False) as ledger:
        fresh = {told: ledger[name] for told, name in names.items()}
    rng = np.random.default_rng(cell.seed)
    count = min(len(first), len(fresh["x"]))
    inside, outside = rng.permutation(first)[:count], rng.permutation(len(fresh["x"]))[:count]
    order = rng.permutation(2 * count)
    member = np.repeat([1, 0], count).astype(np.int64)[order]
    arrays = {told: np.concatenate([trained[told][inside], fresh[told][outside]])[order] for told in names}
    write_arrays(records_path(cell), arrays)
    write_arrays(cell.folder / "sealed" / "records.npz", {"member": member})


def _examples(cell: Cell, sender: int, number: int | None, name: str) -> npt.NDArray[Any]:
    """An array of what a sender, or all clients but the first, trained on in a round, or in all."""
    joined = {OTHERS: cell.clients[1:], ALL: cell.clients}
    clients = joined[sender] if sender in joined else [cell.clients[sender]]
    parts = []
    for client in clients:
        with np.load(cell.trained_on(client), allow_pickle=False) as stored:
            now = slice(None) if number is None or "round" not in stored else stored["round"] == number
            parts.append(stored[name][now])
    return np.concatenate(parts)
