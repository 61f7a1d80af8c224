"""The ground truth of a cell, from its sealed files, which only the scorer reads.

A *unit* is one update as an attacker sees it: (client, round) is one client's. Where the attacker is a participant
(client 0), (-1, round) is that of all others together. For a malicious server, (-2, round) is the mean of all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wireleak.common.files import write_arrays
from wireleak.common.measures.bounds.two_points import count_errors
from wireleak.common.measures.statistics.bootstrap import mean_score, resampled_by
from wireleak.common.measures.statistics.score import Doubles
from wireleak.common.targets.member import PLANTED, Member
from wireleak.common.targets.registry import target_of
from wireleak.common.targets.target import Target
from wireleak.common.threat import PARTICIPANTS
from wireleak.common.traffic import ALL, OTHERS
from wireleak.lab.data.mislabelled import deal
from wireleak.lab.data.overlap import find_overlap
from wireleak.lab.run import planting
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.layout import CellPaths
from wireleak.lab.study.schema import Study, StudyError
from wireleak.lab.study.tables import Variant

_LABELS = '{"labels"'
_Read = Callable[[Path, str], "npt.NDArray[Any] | None"]


@dataclass(frozen=True)
class CellTruth:
    """The sealed files of one attack in a cell, as `wireleak.common.targets.sealed.Sealed`.

    Parameters
    ----------
    cell : Cell
    vantage : str
        Where the attacker sits.
    target : Target
    federated : bool
        Whether the attack reads a federated training.
    rounds : tuple of int, optional
        First and last round whose updates it reads; by default all.
    """

    cell: Cell
    vantage: str
    target: Target[Any]
    federated: bool
    rounds: tuple[int, int] | None = None

    @property
    def seed(self) -> int:
        """The cell's seed."""
        return self.cell.seed

    @property
    def floats(self) -> int:
        """Number of floats of one activation."""
        # Importing the models imports torch, and most questions about the truth need neither.
        from wireleak.common.models import build

        network = build(self.cell.model()["name"], self.cell.input_shape, self.cell.classes, 0)
        return math.prod(network.activation_shape(self.cell.variant.cut))

    @property
    def streamed(self) -> str | None:
        """The property of the study's stream, if it has one."""
        stream = self.cell.study.stream_of(self.cell.variant)
        return None if stream is None else stream.property

    def victims(self, array: str) -> npt.NDArray[Any]:
        """Read an array of the ledger."""
        return _array(self.cell.ledger, array)

    def shared(self) -> npt.NDArray[np.int64]:
        """Find the victims' inputs that the attacker also holds, where the study asks for this overlap."""
        if not self.cell.study.data.overlap:
            return np.zeros(0, np.int64)
        shared: npt.NDArray[np.int64] = find_overlap(_array(self.cell.surrogate, "x"), self.victims("x")).second
        return shared

    def replicates(self) -> npt.NDArray[np.int64] | None:
        """Return the identity of each scored row's person, or of the row itself without persons; None for updates.

        An identity is the same in every seed, so that scores of several seeds can be paired by it.
        """
        by = self.cell.study.data.disjoint_by
        if isinstance(self.target, Member):
            with np.load(self.cell.records, allow_pickle=False) as records:
                return _identities(records["group" if "group" in records else "x"])
        if self.federated:
            return None
        return _identities(self.victims("x" if by is None else f"group:{by}"))

    def surrogate(self, array: str) -> npt.NDArray[Any]:
        """Read an array of the attacker's examples, without augmented copies."""
        own: npt.NDArray[Any] = _array(self.cell.surrogate, array)[~_array(self.cell.surrogate, "augmented")]
        return own

    def records(self) -> dict[str, npt.NDArray[Any]]:
        """Read the records that attacks on membership are asked about."""
        with np.load(self.cell.records, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}

    def units(self) -> list[tuple[int, int]]:
        """List (sender, round) of every update that is attacked, by sender and then by round."""
        rounds = self.cell.plan.attacked(self.rounds)
        return [unit for unit in _units(self.cell, self.vantage, self.target) if unit[1] in rounds]

    def behind(self, array: str) -> list[npt.NDArray[Any]]:
        """Read an array of the examples behind each unit."""
        read = cache(_stored)  # once for all rounds: there may be thousands
        return [_examples(self.cell, sender, number, array, read) for sender, number in self.units()]

    def file(self, name: str, array: str) -> npt.NDArray[Any]:
        """Read an array of a sealed file."""
        return _array(self.cell.sealed(f"{name}.npz"), array)

    def trained_labels(self) -> npt.NDArray[np.int64]:
        """Read the labels that the clients sent, by client and then in their order."""
        return np.concatenate([trained_labels(self.cell, client) for client in self.cell.clients])

    def hidden(self, array: str) -> npt.NDArray[Any]:
        """Read an array that a malicious participant was given to hide."""
        return _array(self.cell.secret, array)

    def planted(self) -> dict[str, int]:
        """Repeat the draw of how often each secret number was planted."""
        return planting.planted(self.cell)


def units(cell: Cell, vantage: str, target: str) -> list[tuple[int, int]]:
    """Return (sender, round) of every update that is attacked, by sender and then by round."""
    return _units(cell, vantage, target_of(target))


def _units(cell: Cell, vantage: str, target: Target[Any]) -> list[tuple[int, int]]:
    senders = _senders(cell, target)
    seen = [OTHERS] if vantage in PARTICIPANTS else [ALL] if vantage == "malicious-server" else senders
    return [(sender, number) for sender in seen for number in range(1, cell.plan.rounds + 1)]


def _senders(cell: Cell, target: Target[Any]) -> list[int]:
    return target.senders(len(cell.clients), participant=cell.variant.participant is not None)


def unit_attribute(cell: Cell, vantage: str, attribute: str) -> npt.NDArray[np.int64]:
    """Return each unit's value of an attribute.

    For the property of the study's stream: whether any example has it. Otherwise: the most frequent value.
    """
    target = target_of(attribute)
    values: npt.NDArray[np.int64] = target.ground_truth(CellTruth(cell, vantage, target, True)).values
    return values


def ledger(cell: CellPaths) -> dict[str, npt.NDArray[Any]]:
    """Read the victims' inputs, task labels, attributes and groups."""
    with np.load(cell.ledger, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def trained_labels(cell: Cell, client: str) -> npt.NDArray[np.int64]:
    """Return the labels that a client sent in split training, in their order, from its own record.

    Raises
    ------
    StudyError
        There is no record.
    """
    # An emulated device has no other way out than its console.
    emulated = cell.trainer is not None and client == cell.clients[-1]
    path = cell.log(client) if emulated else cell.trained_labels(client)
    if not path.is_file():
        raise StudyError(
            f"{cell.name}: {client} kept no record of the labels that it sent, as runs of older versions; "
            f"remove {cell.folder} and run again with --resume"
        )
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.startswith(_LABELS)]
    batches = [np.array(json.loads(line)["labels"], np.int64) for line in lines]
    return np.concatenate([np.zeros(0, np.int64), *batches])


def deal_canaries(cell: Cell, client: int, examples: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Give a client its part of an audit's canaries; return what it trains on, and seal the canaries left out."""
    wanted = np.array_split(np.arange(cell.study.data.canaries or 0), len(cell.clients))[client]
    rng = np.random.default_rng(cell.seed_of("mislabelled", str(client)))
    trained, left_out = deal(examples, len(wanted), rng)
    write_arrays(cell.sealed(f"left-out-{cell.clients[client]}.npz"), left_out)
    return trained


def write_records(cell: Cell) -> None:
    """Write the files that attacks on membership and malicious participants of this cell need."""
    attacks = cell.study.attacks_on(cell.variant)
    if Member.grants in {target_of(target).grants for use in attacks for target in use.targets}:
        _write_members(cell)
    if planting.plants(cell.variant):
        planting.write(cell, cell.secret)
    elif cell.variant.participant is not None:
        with np.load(cell.train(cell.clients[0]), allow_pickle=False) as own:
            # The first distinct inputs, so that the choice does not depend on how well the strategy hides them.
            _, first = np.unique(own["x"], axis=0, return_index=True)
            write_arrays(cell.secret, {"x": own["x"][np.sort(first)[: cell.variant.participant.secrets]]})


def _write_members(cell: Cell) -> None:
    data = cell.study.data
    # Names of a record's arrays for the attacker, and in the sealed files.
    names = {"x": "x", "y": "y"} | ({} if data.disjoint_by is None else {"group": f"group:{data.disjoint_by}"})
    senders = _senders(cell, Member())
    parts = {granted: [_examples(cell, number, None, name) for number in senders] for granted, name in names.items()}
    trained = {granted: np.concatenate(held) for granted, held in parts.items()}
    client = np.repeat(senders, [len(part) for part in parts["x"]])
    _, first = np.unique(trained["x"], axis=0, return_index=True)
    planted = None
    if data.canaries is not None:
        planted = np.concatenate([_examples(cell, number, None, "canary") for number in senders])
        first = first[~planted[first]]
    with np.load(cell.ledger, allow_pickle=False) as ledger:
        fresh = {granted: ledger[name] for granted, name in names.items()}
    rng = np.random.default_rng(cell.seed_of("records"))
    equal = min(len(first), len(fresh["x"]))
    wanted = (equal, equal) if data.nonmembers is None else (len(first), data.nonmembers)
    inside, outside = rng.permutation(first)[: wanted[0]], rng.permutation(len(fresh["x"]))[: wanted[1]]
    member = np.repeat([1, 0], [len(inside), len(outside)])
    rows = {key: [trained[key][inside], fresh[key][outside]] for key in names}
    # Of each client's questions the same share is about members, so that the client says nothing.
    asked = [client[inside], rng.choice(client[inside], len(outside))] if data.membership == "client" else []
    if planted is not None:
        files = [cell.sealed(f"left-out-{cell.clients[number]}.npz") for number in senders]
        left_out = {name: [_array(path, name) for path in files] for name in names.values()}
        counts = [len(part) for part in left_out["y"]]
        member = np.concatenate([member, np.repeat([PLANTED + 1, PLANTED], [planted.sum(), sum(counts)])])
        for key, name in names.items():
            rows[key] += [trained[key][planted], *left_out[name]]
        asked += [client[planted], np.repeat(senders, counts)] if asked else []
    order = rng.permutation(len(member))
    arrays = {key: np.concatenate(parts)[order] for key, parts in rows.items()}
    arrays |= {"client": np.concatenate(asked)[order]} if asked else {}
    write_arrays(cell.records, arrays)
    write_arrays(cell.sealed("records.npz"), {"member": member.astype(np.int64)[order]})


def _stored(path: Path, name: str) -> npt.NDArray[Any] | None:
    with np.load(path, allow_pickle=False) as stored:
        values: npt.NDArray[Any] | None = stored.get(name)
    return values


def _examples(cell: Cell, sender: int, number: int | None, name: str, read: _Read = _stored) -> npt.NDArray[Any]:
    """Read an array of the examples on which a sender, or all clients but the first, trained in one round or in all."""
    joined = {OTHERS: cell.clients[1:], ALL: cell.clients}
    clients = joined[sender] if sender in joined else [cell.clients[sender]]
    parts = []
    for client in clients:
        path = cell.trained_on(client)
        values, rounds = read(path, name), None if number is None else read(path, "round")
        assert values is not None, f"{path} holds no {name}"
        parts.append(values if rounds is None else values[rounds == number])
    return np.concatenate(parts)


@dataclass(frozen=True)
class Accuracy:
    """The main task's accuracy on `n` examples, that of always guessing their largest class, and resampled values."""

    value: float
    n: int
    majority: float
    draws: Doubles | None


def accuracy_of(cell: Cell, evaluated: float) -> Accuracy:
    """Return a cell's accuracy: that of the clients' last evaluation, or of the predictions that its device received.

    A network that is federated, or that comes trained, is evaluated without its devices' transforms, so their cost
    would be left out. Where any variant of the study has such transforms, predictions on the wire count in all.
    """
    study = cell.study
    late = [one for one in study.variants if one.transforms and not _trains_through(study, one)]
    if not late or not study.serve.devices:
        labels = np.concatenate([_array(cell.evaluation(name), "y") for name in cell.clients])
        return Accuracy(evaluated, len(labels), _majority(labels), resampled_accuracy(cell, evaluated))
    truth = ledger(cell)
    right = _array(cell.predictions("victim"), "prediction").argmax(1) == truth["y"]
    return Accuracy(float(right.mean()), len(right), _majority(truth["y"]), _resampled(cell, right, truth["x"]))


def _trains_through(study: Study, variant: Variant) -> bool:
    """Whether clients train, and are evaluated, with the variant's transforms."""
    return not study.model.trained and study.plan_of(variant).mode == "split"


def _majority(labels: npt.NDArray[Any]) -> float:
    return float(np.bincount(labels).max() / len(labels))


def resampled_accuracy(cell: Cell, accuracy: float) -> Doubles | None:
    """Return the resampled accuracy of the clients' last evaluation (resamples,); examples are the units.

    None where a client did not say which examples it named, or said so of another evaluation than gave `accuracy`.
    """
    paths = [cell.answers(client) for client in cell.clients]
    if not all(path.is_file() for path in paths):
        return None
    right = np.concatenate([_array(path, "right") for path in paths])
    examples = np.concatenate([_array(cell.evaluation(client), "x") for client in cell.clients])
    if len(right) != len(examples) or not math.isclose(right.mean(), accuracy, abs_tol=1e-6):
        return None
    return _resampled(cell, right, examples)


def _resampled(cell: Cell, right: npt.NDArray[Any], examples: npt.NDArray[Any]) -> Doubles | None:
    with resampled_by(_identities(examples)):
        return mean_score("accuracy", right, np.random.default_rng(cell.seed)).draws


def _identities(rows: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return a number for each row, the same for equal rows in every seed."""
    contents = (np.ascontiguousarray(row).tobytes() for row in rows)
    found = [int.from_bytes(blake2b(content, digest_size=8).digest(), "little", signed=True) for content in contents]
    return np.array(found, np.int64)


def _array(path: Path, name: str) -> npt.NDArray[Any]:
    with np.load(path, allow_pickle=False) as stored:
        array: npt.NDArray[Any] = stored[name]
    return array


def audited(cell: CellPaths) -> Path:
    """Return the file of activations that the auditor's device sent, as they were seen on the wire."""
    return cell.device("audit") / "seen.npz"


def write_audit(cell: Cell, first: npt.NDArray[np.bool_], place: npt.NDArray[np.int64]) -> None:
    """Write which activation each message of the auditor's device holds, and in which number the two differ."""
    write_arrays(cell.sealed("audit.npz"), {"first": first, "place": place})


def audit_errors(cell: Cell) -> tuple[int, int] | None:
    """Return the errors of a test between the auditor's two activations, and its messages; None without an audit."""
    sent, received = cell.sealed("audit.npz"), audited(cell)
    if not received.is_file() or not sent.is_file():
        return None
    first, place = _array(sent, "first"), _array(sent, "place")
    seen = _array(received, "activation").reshape(len(first), -1)
    return count_errors(seen[np.arange(len(seen)), place], first)
