"""How many examples an audit takes, from the memory, the size of the activations, the time and the data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wireleak.common.memory import written
from wireleak.common.targets.memory import Sizes, attack_memory
from wireleak.lab.audit.cost import Cost
from wireleak.lab.data import DataError

# Wanted numbers of examples, without and with --quick.
_FULL = {"train": 2560, "evaluation": 400, "attacker": 1500, "victims": 400}
_QUICK = {"train": 640, "evaluation": 160, "attacker": 500, "victims": 150}
_LEAST = {"train": 32, "evaluation": 20, "attacker": 24, "victims": 20}
# The lab, the fork server, the tap and the head, before any data; and the lab's copies of guesses while it scores.
_PROCESSES, _SCORED = 1.1 * 2**30, 10
# Parts of a budget for training, and for serving and reading all cuts; attacks get the rest.
TRAINING, READING = 0.25, 0.30
_EVALUATING = 0.03
# Normalisation over fewer images than this would be noise.
_LEAST_BATCH = 4
# Work per byte on the wire: sending, recording, listing and decoding it.
_SECONDS_A_BYTE = 1.2e-7
_SECONDS_A_CUT, _SECONDS_A_VICTIM_BYTE = 15.0, 5e-7
_FEWEST_CUTS, _FEWEST_PASSES = 3, 3
_SMALL = {"attacker": 200, "victims": 50}


@dataclass(frozen=True)
class Speed:
    """Seconds that one image takes: to train on with all cores, and to predict with one; bytes that training takes."""

    train: float
    predict: float
    memory: float = 0.0

    def batch(self, most: int, memory: float) -> int:
        """Return the largest batch whose training step fits in the memory, from 4 to `most`."""
        return max(_LEAST_BATCH, min(most, math.floor(memory / max(self.memory, 1.0))))


@dataclass(frozen=True)
class Counts:
    """Examples of each role, and sentences that explain them."""

    train: int
    evaluation: int
    attacker: int
    victims: int
    notes: tuple[str, ...] = ()

    def roles(self) -> dict[str, int]:
        """Return the numbers by role, as a study's `data` table has them."""
        return {name: getattr(self, name) for name in _FULL}

    @property
    def total(self) -> int:
        """Examples of all roles together."""
        return sum(self.roles().values())


@dataclass(frozen=True)
class Needs:
    """The facts of an audit that decide its size.

    Parameters
    ----------
    pixels : int
        Numbers in one input.
    memory : int
        Bytes for all processes together.
    quick : bool
        Whether to take fewer examples.
    trains : bool
        Whether the network is trained.
    """

    pixels: int
    memory: int
    quick: bool
    trains: bool


def wanted(
    costs: Sequence[Cost],
    needs: Needs,
    most_attacker: int | None = None,
    most_train: int | None = None,
    most_evaluation: int | None = None,
) -> Counts:
    """Return the numbers of examples that fit in the memory; the widest of the cuts decides.

    The other arguments limit the attacker's, the training and the evaluation examples where time is short.
    """
    most = dict(_QUICK if needs.quick else _FULL)
    if not needs.trains:
        most["train"] = 1
    notes = []
    if most_train is not None and most_train < most["train"]:
        most["train"] = most_train
        notes.append(f"the network is trained on {most_train} examples at most: more would not fit in the budget")
    most["evaluation"] = min(most["evaluation"], most_evaluation or most["evaluation"])
    widest = max(cost.floats for cost in costs)
    ratio = most["victims"] / most["attacker"]
    timely = min(most["attacker"], most_attacker or most["attacker"])
    attacker = timely
    while attacker > _LEAST["attacker"] and _memory(attacker, ratio, widest, needs.pixels, most) > needs.memory:
        attacker = math.floor(attacker * 0.95)
    if attacker < most["attacker"]:
        most |= {"attacker": attacker, "victims": max(_LEAST["victims"], math.floor(attacker * ratio))}
        why = (
            f"the widest cut sends {4 * widest / 1e6:.1f} MB an example, and {written(needs.memory)} of memory must "
            "hold an attack on it"
            if attacker < timely
            else "more would not fit in the budget"
        )
        notes.append(f"the attacker has {attacker} examples, and {most['victims']} victims send theirs: {why}")
    return Counts(**most, notes=tuple(notes))


def plan_cuts(
    cuts: Sequence[int],
    costs: Mapping[int, Cost],
    needs: Needs,
    speed: Speed | None,
    budget: float | None,
    *,
    fixed: bool,
) -> tuple[tuple[int, ...], Counts, dict[int, str]]:
    """Return the cuts that are served, the numbers of examples, and why cuts were left out.

    Parameters
    ----------
    cuts : sequence of int
        Candidates, in order.
    costs : mapping of int to Cost
    needs : Needs
    speed, budget : Speed and float, or None
        Speed of the network, and seconds; without a budget all candidates are served.
    fixed : bool
        Whether the user named the cuts, so that none may be left out.
    """
    if budget is None or speed is None:
        return tuple(cuts), wanted([costs[cut] for cut in cuts], needs), {}
    order = by_priority(cuts, costs)
    most = None
    # Fewer examples before fewer passes than these, because running statistics must converge.
    train = max(_LEAST["train"], math.floor(TRAINING * budget / (_FEWEST_PASSES * max(speed.train, 1e-6))))
    evaluation = max(_LEAST["evaluation"], math.floor(_EVALUATING * budget / max(speed.predict, 1e-6)))
    while True:
        counts = wanted([costs[cut] for cut in order], needs, most, train, evaluation)
        kept = affordable(order, {cut: cut_seconds(costs[cut], counts, needs.pixels, speed) for cut in order}, budget)
        if (
            len(kept) >= (len(order) if fixed else min(_FEWEST_CUTS, len(order)))
            or counts.attacker <= _LEAST["attacker"]
        ):
            break
        most = max(_LEAST["attacker"], math.floor(counts.attacker * 0.8))
    kept = sorted(order) if fixed else kept
    left_out = {cut: "the budget has no time for it; name it with --cuts" for cut in order if cut not in kept}
    return tuple(kept), wanted([costs[cut] for cut in kept], needs, most, train, evaluation), left_out


def by_priority(cuts: Sequence[int], costs: Mapping[int, Cost]) -> list[int]:
    """Return cuts that send less than every earlier one first, each part from its ends inwards."""
    least = math.inf
    smaller = []
    for cut in cuts:
        if costs[cut].bytes < least:
            smaller.append(cut)
            least = costs[cut].bytes
    return _spread(smaller) + _spread([cut for cut in cuts if cut not in smaller], smaller)


def _spread(cuts: Sequence[int], taken: Sequence[int] = ()) -> list[int]:
    """Order cuts so that each next one is the farthest from all before it; later cuts first among equals."""
    left, order = list(cuts), []
    known = list(taken)
    while left:
        farthest = max(left, key=lambda cut: (min((abs(cut - one) for one in known), default=cut), cut))
        left.remove(farthest)
        known.append(farthest)
        order.append(farthest)
    return order


def fitted(counts: Counts, available: int, *, grouped: bool) -> Counts:
    """Return the numbers of examples within the size of the data set.

    Parameters
    ----------
    counts : Counts
    available : int
        Distinct examples.
    grouped : bool
        Whether parties share no group; groups do not divide evenly, so some examples stay unused.

    Raises
    ------
    DataError
        There are too few.
    """
    usable = math.floor(0.85 * available) if grouped else available
    roles, notes = counts.roles(), list(counts.notes)
    if usable < counts.total:
        least = {role: min(count, _LEAST[role]) for role, count in roles.items()}
        spare = usable - sum(least.values())
        if spare < 0:
            raise DataError(
                f"--data: {available} distinct examples are too few for an audit; give {sum(_LEAST.values())} or more"
            )
        beyond = {role: roles[role] - least[role] for role in roles}
        share = spare / sum(beyond.values())
        roles = {role: least[role] + math.floor(share * beyond[role]) for role in roles}
        notes.append(f"the data has {available} distinct examples, so each party gets fewer")
    small = [f"{roles[role]} {name}" for role, name in _NAMES.items() if roles[role] < _SMALL[role]]
    if small:
        notes.append(f"{' and '.join(small)} are few: intervals are wide, and more data may help the attacker")
    return Counts(**roles, notes=tuple(notes))


_NAMES = {"attacker": "attacker's examples", "victims": "victims"}


def passes(counts: Counts, epochs: int, speed: Speed, budget: float) -> int:
    """Return how many of `epochs` passes over the training examples fit in the budget's share; at least one."""
    return max(1, min(epochs, math.floor(TRAINING * budget / max(speed.train * counts.train, 1e-6))))


def cut_seconds(cost: Cost, counts: Counts, pixels: int, speed: Speed) -> float:
    """Estimate the CPU time of serving, recording and reading one cut."""
    served = counts.attacker + counts.victims
    scored = counts.victims * 4 * pixels * _SECONDS_A_VICTIM_BYTE
    return _SECONDS_A_CUT + served * (speed.predict + cost.bytes * _SECONDS_A_BYTE) + scored


def affordable(order: Sequence[int], seconds: Mapping[int, float], budget: float) -> list[int]:
    """Return the first cuts of an order whose reading fits in its share of the budget; at least one."""
    kept: list[int] = []
    spent = 0.0
    for cut in order:
        spent += seconds[cut]
        if kept and spent > READING * budget:
            break
        kept.append(cut)
    return sorted(kept)


def _memory(attacker: int, ratio: float, floats: int, pixels: int, most: Mapping[str, int]) -> float:
    """Return the memory of the lab with its data, and of one attack on the widest cut."""
    victims = max(_LEAST["victims"], math.floor(attacker * ratio))
    images = sum(most.values()) - most["attacker"] - most["victims"] + attacker + victims
    lab = images * pixels + _SCORED * victims * 4 * pixels
    return _PROCESSES + lab + attack_memory(Sizes(attacker, victims, (floats,), (pixels,)))
