"""Federated training as captures show it: the global models and each client's update.

There are three vantage points on one run. On a *link* (or all of them), each client's update is visible. A curious
*server* sees the same, even if links are encrypted, from the replies that it kept. A *participant* sees only its own
link: the global models and its own update, and from these the sum of all the others' updates.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from adversary.tap.decode.observation import Kind
from wireleak.common.exchanged import kept_files
from wireleak.common.plan import ClientPlan, PrivacyConfig
from wireleak.common.traffic import ALL, OTHERS

if TYPE_CHECKING:
    from torch import nn

State = dict[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Recipe:
    """The training settings that the server sends to every participant.

    Parameters
    ----------
    plan : ClientPlan
    participants : int
        Clients in a round.
    examples : int
        Examples of each client per round; on a link or at the server, an "input" attack guesses as many per update.
    own : int or None
        The attacker's client number, if it is a participant.
    privacy : PrivacyConfig or None
        The clients' DP-SGD. Its noise multiplier and norm are public; an attacker who ignores them imitates badly.
    """

    plan: ClientPlan
    participants: int
    examples: int
    own: int | None = None
    privacy: PrivacyConfig | None = None

    def imitate(self, network: nn.Module, inputs: Floats, labels: Ints, seed: tuple[int, ...]) -> None:
        """Train a network in place as a client does in one round, on the attacker's examples (n, ...) and (n,)."""
        from wireleak.common.models.training import Training, train_whole

        how = Training(self.plan, seed)
        if self.privacy is None:
            train_whole(network, inputs, labels, how)
            return
        from wireleak.common.models.private import train_whole_privately

        train_whole_privately(network, inputs, labels, how, self.privacy)

    def clients(self, sender: int) -> int:
        """Return how many clients one update of a sender is the mean of."""
        return {OTHERS: self.participants - 1, ALL: self.participants}.get(sender, 1)

    def behind(self, sender: int) -> int:
        """Return the number of examples behind one update of a sender."""
        return self.examples * self.clients(sender)


@dataclass(frozen=True)
class Update:
    """One sender's change to a round's global model.

    Parameters
    ----------
    sender : int
        The client's number (its capture's place), or `OTHERS`: the mean of all but the attacker's own, or `ALL`: the
        mean of all, which is the next global model.
    round : int
        Number of the round, from 1.
    start, end : mapping of str to array
        By layer: the global model at the start of the round, and the model that was sent.
    """

    sender: int
    round: int
    start: Mapping[str, npt.NDArray[Any]]
    end: Mapping[str, npt.NDArray[Any]]

    @property
    def delta(self) -> dict[str, Floats]:
        """The change, float32 by layer; layers of integers (counters) are left out."""
        floats = {name: value for name, value in self.end.items() if value.dtype.kind == "f"}
        return {name: np.asarray(value - self.start[name], np.float32) for name, value in floats.items()}

    def gradient(self, learning_rate: float) -> dict[str, Floats]:
        """Return the sum of the gradients of plain SGD's steps: -delta / learning rate."""
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
        The attacker's own updates, if it is a participant.
    messages, bytes : int
        Flower messages with arrays that were read, and the arrays' bytes.
    notes : tuple of str
        Remarks for the reader of meta.json.
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
    paths: Sequence[Path],
    recipe: Recipe,
    senders: Collection[int] | None = None,
    *,
    released: bool = False,
    rounds: tuple[int, int] | None = None,
) -> Seen:
    """Read a training from its clients' links, or from a curious server's records.

    Parameters
    ----------
    paths : sequence of Path
        One capture per client, in the order of the clients' numbers; a folder is a server's records of one client
        (``round-<r>-start.safetensors`` and ``round-<r>-end.safetensors``). With `recipe.own`: the attacker's own link.
    recipe : Recipe
    senders : collection of int, optional
        Clients whose updates are wanted. All links are read anyway, because one link helps to decode another.
    released : bool
        Whether to keep only the last global model.
    rounds : tuple of int, optional
        First and last round to keep; by default all. The models before and after each round are kept, too. A window
        bounds the memory for a training of thousands of rounds.

    Raises
    ------
    adversary.tap.decode.packets.pcap.CaptureError
        A file is not a capture.
    """
    numbers = [recipe.own] if recipe.own is not None else list(range(len(paths)))
    recorded = [path for path in paths if path.is_dir()]
    window = Window(*rounds) if rounds else Window()
    read = _records(recorded, window) if recorded else _captures(paths, window)
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


@dataclass(frozen=True)
class Window:
    """The rounds that are kept, both ends included."""

    first: int = 0
    last: int = sys.maxsize

    def holds(self, number: int, *, model: bool) -> bool:
        """Return whether a round's update is kept, or its first global model: that after the last round is, too."""
        return self.first <= number <= self.last + model


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


def _captures(paths: Sequence[Path], window: Window) -> _Read:
    from adversary.tap.decode.read import observations

    read = _Read([_Link() for _ in paths])
    place = {str(path): number for number, path in enumerate(paths)}
    # All links together: Flower does not resend objects that the other side has, but other links carry them.
    states: dict[tuple[int, Kind, int], list[State]] = defaultdict(list)
    for seen in observations(paths):
        if seen.kind not in (Kind.GLOBAL_MODEL, Kind.MODEL_UPDATE) or seen.round is None:
            continue
        if not window.holds(seen.round, model=seen.kind is Kind.GLOBAL_MODEL):
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
        # A round's second global model is sent for evaluation; it is the next round's first.
        link.models[at] = messages[0]
        if len(messages) > 1:
            link.models.setdefault(at + 1, messages[1])
    return read


def _records(folders: Sequence[Path], window: Window) -> _Read:
    read = _Read([_Link() for _ in folders])
    for link, folder in zip(read.links, folders, strict=True):
        for at, moment, path in kept_files(folder):
            if not window.holds(at, model=moment == "start"):
                continue
            (link.models if moment == "start" else link.answers)[at] = load_file(path)
            read.messages += 1
            read.bytes += path.stat().st_size
    return read


def _numbered(state: State) -> bool:
    return all(name.isdigit() for name in state)


def _named(state: State, names: Sequence[str]) -> State:
    """Name the arrays of secure aggregation, which sends them in order and without names."""
    if not _numbered(state) or len(state) != len(names):
        return state
    return {name: state[str(place)] for place, name in enumerate(names)}


def _others(own: Update, following: State, participants: int) -> State:
    """Return the other clients' mean after a round, from the mean of all and the attacker's own, at equal weights."""
    return {
        name: np.asarray((value.astype(np.float64) * participants - own.end[name]) / (participants - 1), value.dtype)
        for name, value in following.items()
    }
