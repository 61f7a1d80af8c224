"""What captures hold of federated training: the global models, and what each client made of them.

Three vantage points on one run. On a *link* (or all of them) each client's update is seen. A curious *server* sees the
same, also where links are encrypted, from what it kept of the replies. A *participant* sees its own link alone: the
global models and its own update, and with them the sum of what all the others did.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from adversary.tap.decode.observation import Kind
from adversary.tap.decode.read import observations
from wireleak.common.plan import ClientPlan
from wireleak.common.traffic import ALL, OTHERS

State = dict[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """What every participant is told of how to train, as the server tells it.

    Parameters
    ----------
    plan : ClientPlan
    participants : int
        Clients in a round.
    examples : int
        Of each client in a round: at link and server an "input" attack guesses as many for each update.
    own : int or None
        The attacker's number among the clients, where it is a participant.
    """

    plan: ClientPlan
    participants: int
    examples: int
    own: int | None = None

    def behind(self, sender: int) -> int:
        """Examples behind one update of a sender."""
        return self.examples * {OTHERS: self.participants - 1, ALL: self.participants}.get(sender, 1)


@dataclass(frozen=True)
class Update:
    """What one sender made of a round's global model.

    Parameters
    ----------
    sender : int
        The client's number (its capture's place), or `OTHERS`: the mean of all but the attacker's own, or `ALL`: the
        mean of all, which is the next global model.
    round : int
        From 1.
    start, end : mapping of str to array
        By layer: the global model it began with, and the one it sent.
    """

    sender: int
    round: int
    start: Mapping[str, npt.NDArray[Any]]
    end: Mapping[str, npt.NDArray[Any]]

    @property
    def delta(self) -> dict[str, Floats]:
        """What changed, float32 by layer; layers that are no floats (counters) are left out."""
        floats = {name: value for name, value in self.end.items() if value.dtype.kind == "f"}
        return {name: np.asarray(value - self.start[name], np.float32) for name, value in floats.items()}

    def gradient(self, learning_rate: float) -> dict[str, Floats]:
        """The sum of the gradients of plain SGD's steps (the gradient, of one step): -delta / learning rate."""
        return {name: np.asarray(value / -learning_rate, np.float32) for name, value in self.delta.items()}


@dataclass(frozen=True)
class Seen:
    """A federated training as one attacker sees it.

    Parameters
    ----------
    models : mapping of int to state
        The global model that round r began with, by r; the last one, after the last round, is the released model.
    updates : tuple of Update
        By sender, then by round. At a participant's vantage the sender is `OTHERS`.
    own : tuple of Update
        The attacker's own, where it is a participant.
    messages, bytes : int
        Flower messages with arrays that were read, and the arrays' bytes.
    notes : tuple of str
        What a reader should know.
    """

    models: Mapping[int, State]
    updates: tuple[Update, ...]
    own: tuple[Update, ...] = ()
    messages: int = 0
    bytes: int = 0
    notes: tuple[str, ...] = ()

    @property
    def units(self) -> list[tuple[int, int]]:
        """(sender, round) of each update."""
        return [(one.sender, one.round) for one in self.updates]


def training(
    paths: Sequence[Path], recipe: Recipe, senders: Collection[int] | None = None, *, released: bool = False
) -> Seen:
    """Read a training off its clients' links, or off a curious server's records.

    Parameters
    ----------
    paths : sequence of Path
        One capture a client, in the order of the clients' numbers; folders are a server's records of one client each
        (``round-<r>-start.safetensors`` and ``round-<r>-end.safetensors``). With `recipe.own`: the attacker's own link.
    recipe : Recipe
    senders : collection of int, optional
        Clients whose updates are wanted; all links are read all the same, as what crossed one helps to decode another.
    released : bool
        Keep the last global model alone.

    Raises
    ------
    adversary.tap.decode.pcap.CaptureError
        A file is no capture.
    """
    numbers = [recipe.own] if recipe.own is not None else list(range(len(paths)))
    recorded = [path for path in paths if path.is_dir()]
    read = _records(recorded) if recorded else _captures(paths)
    models: dict[int, State] = {}
    for link in read.links:
        models |= {number: state for number, state in link.models.items() if number not in models}
    names = next((list(state) for state in models.values() if not _numbered(state)), None)
    if names is not None:
        models = {number: _named(state, names) for number, state in models.items()}
    own = recipe.own is not None
    updates = tuple(
        Update(numbers[place], number, link.models[number], end)
        for place, link in enumerate(read.links)
        for number, end in sorted(link.answers.items())
        if number in link.models and (recipe.own is not None or senders is None or numbers[place] in senders)
    )
    if released:
        last = {max(models): models[max(models)]} if models else {}
        return Seen(last, (), (), read.messages, read.bytes, () if last else ("0 global models seen",))
    if senders == {ALL}:
        pairs = [(at, model, models[at + 1]) for at, model in sorted(models.items()) if at + 1 in models]
        updates = tuple(Update(ALL, at, model, end) for at, model, end in pairs)
    notes = () if updates or own else ("0 model updates seen",)
    if not own:
        return Seen(models, updates, (), read.messages, read.bytes, notes)
    others = tuple(
        Update(OTHERS, one.round, one.start, _others(one, models[one.round + 1], recipe.participants))
        for one in updates
        if one.round + 1 in models and recipe.participants > 1
    )
    return Seen(models, others, updates, read.messages, read.bytes, notes if others else ("0 global models seen",))


class _Link:
    """One client's global models and answers, by round."""

    def __init__(self) -> None:
        self.models: dict[int, State] = {}
        self.answers: dict[int, State] = {}


@dataclass
class _Read:
    links: list[_Link]
    messages: int = 0
    bytes: int = 0


def _captures(paths: Sequence[Path]) -> _Read:
    read = _Read([_Link() for _ in paths])
    place = {str(path): number for number, path in enumerate(paths)}
    # Together: Flower does not send again what the other side holds, and what that is, other links tell.
    states: dict[tuple[int, Kind, int], list[State]] = defaultdict(list)
    for seen in observations(paths):
        if seen.kind not in (Kind.GLOBAL_MODEL, Kind.MODEL_UPDATE) or seen.round is None:
            continue
        messages = states[place[seen.call.rpartition("#")[0]], seen.kind, seen.round]
        if not seen.sequence:
            messages.append({})
            read.messages += 1
        messages[-1][seen.name] = seen.tensor
        read.bytes += seen.tensor.nbytes
    for (number, kind, at), messages in sorted(states.items()):
        link = read.links[number]
        if kind is Kind.MODEL_UPDATE:
            link.answers[at] = messages[0]
            continue
        # A round's second global model is the one to evaluate: the next round's first.
        link.models[at] = messages[0]
        if len(messages) > 1:
            link.models.setdefault(at + 1, messages[1])
    return read


def _records(folders: Sequence[Path]) -> _Read:
    read = _Read([_Link() for _ in folders])
    for link, folder in zip(read.links, folders, strict=True):
        for path in sorted(folder.glob("round-*.safetensors")):
            _, at, what = path.stem.split("-")
            (link.models if what == "start" else link.answers)[int(at)] = load_file(path)
            read.messages += 1
            read.bytes += path.stat().st_size
    return read


def _numbered(state: State) -> bool:
    return all(name.isdigit() for name in state)


def _named(state: State, names: Sequence[str]) -> State:
    """Secure aggregation sends the arrays by their order, without names."""
    if not _numbered(state) or len(state) != len(names):
        return state
    return {name: state[str(place)] for place, name in enumerate(names)}


def _others(own: Update, following: State, participants: int) -> State:
    """Where the other clients' mean stands after a round, from the mean of all and one's own, all weighing the same."""
    return {
        name: np.asarray((value.astype(np.float64) * participants - own.end[name]) / (participants - 1), value.dtype)
        for name, value in following.items()
    }
