"""Roles of examples: clients' training and evaluation, surrogates, victims; disjoint by content and by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wireleak.common.registry import unknown
from wireleak.lab.data.dataset import DataError, Dataset, Ints
from wireleak.lab.data.overlap import first_occurrences

ROLES = ("clients", "evaluation", "attacker", "victims")
Only = Mapping[str, Mapping[str, Sequence[str | int]]]


@dataclass(frozen=True)
class Turn:
    """Place of a draw among those of one run, so that draws take other victims.

    Parameters
    ----------
    order : int
        Seed of the order in which draws take victims; the same for all of them.
    number : int
        Number of the draw, from 0.
    """

    order: int
    number: int


@dataclass(frozen=True)
class Roles:
    """Indices of each role into the data set, in the order of the draw.

    `duplicates` counts the repeated examples that were dropped first.
    """

    clients: Ints
    evaluation: Ints
    attacker: Ints
    victims: Ints
    duplicates: int


def assign_roles(
    dataset: Dataset,
    *,
    clients: int | None,
    evaluation: int | None,
    attacker: int | None,
    victims: int | None,
    disjoint_by: str | None = None,
    only: Only | None = None,
    overlap: Sequence[str] = (),
    seed: int = 0,
    turn: Turn | None = None,
) -> Roles:
    """Draw each role's examples; no example, and no copy of one, has two roles.

    Parameters
    ----------
    dataset : Dataset
        Source of the examples. Of repeated examples only the first is used.
    clients, evaluation, attacker, victims : int or None
        How many examples: the clients' training pool, their held-out pool, the attacker's surrogates, the victims'
        inputs. None takes all that `only` permits and the counted roles leave.
    disjoint_by : str, optional
        A group. Clients (with their evaluation), attacker and victims share none of its values.
    only : mapping, optional
        Role -> group -> values (names or numbers) that the role may draw from, e.g.
        ``{"clients": {"part": ["evaluation"]}, "attacker": {"alphabet": ["Greek", "Latin"]}}``.
        `evaluation` follows `clients` unless named.
    overlap : sequence of str
        Roles that may share examples with the others, to repeat a published flaw.
    seed : int
        Seed of the draw.
    turn : Turn, optional
        Give the victims other examples, or persons, than draws of other numbers give them; so all roles, if there are
        enough examples. Without effect where `only` or `overlap` restricts the roles.

    Raises
    ------
    DataError
        Unknown role, group or value, or too few examples for a role.
    """
    wanted = dict(zip(ROLES, (clients, evaluation, attacker, victims), strict=True))
    _check_counts(wanted)
    rng = np.random.default_rng(seed)
    unique = first_occurrences(dataset.x)
    allowed = {role: mask[unique] for role, mask in _allowed(dataset, only or {}).items()}
    free = turn is not None and not only and not overlap
    if disjoint_by is not None:
        values = dataset.group(disjoint_by)[unique]
        reserved = _persons_in_turn(values, victims, turn) if turn is not None and free else None
        allowed = _divide(values, wanted, allowed, rng, reserved)
    elif turn is not None and free:
        allowed = _in_turn(wanted, allowed, turn)
    drawn = _draw(wanted, allowed, overlap, rng)
    return Roles(
        unique[drawn["clients"]],
        unique[drawn["evaluation"]],
        unique[drawn["attacker"]],
        unique[drawn["victims"]],
        len(dataset) - len(unique),
    )


Mask = npt.NDArray[np.bool_]


def _in_turn(wanted: Mapping[str, int | None], allowed: Mapping[str, Mask], turn: Turn) -> dict[str, Mask]:
    """Restrict every role to a block of an order that all draws share; only the victims, where examples are few."""
    count, victims = len(allowed["victims"]), wanted["victims"]
    counts = [role for role in wanted.values() if role is not None]
    total = sum(counts)
    order = np.random.default_rng(turn.order).permutation(count)
    if len(counts) == len(wanted) and 0 < 2 * total <= count:
        block = _block(order, total, turn.number)
        return {role: mask & block for role, mask in allowed.items()}
    if not victims or victims > count:
        return dict(allowed)
    block = _block(order, victims, turn.number)
    return {role: mask & (block if role == "victims" else ~block) for role, mask in allowed.items()}


def _block(order: Ints, size: int, number: int) -> Mask:
    start = number % (len(order) // size) * size
    mask = np.zeros(len(order), bool)
    mask[order[start : start + size]] = True
    return mask


def _persons_in_turn(values: Ints, victims: int | None, turn: Turn) -> Ints | None:
    """Return the group values of the victims: a block of an order that all draws share; None where there is none."""
    kinds, counts = np.unique(values, return_counts=True)
    order = np.random.default_rng(turn.order).permutation(len(kinds))
    blocks: list[list[int]] = [[]]
    for place in order:
        blocks[-1].append(int(place))
        if victims and counts[blocks[-1]].sum() >= victims:
            blocks.append([])
    whole = blocks[:-1]
    return kinds[whole[turn.number % len(whole)]] if whole else None


def _field(role: str) -> str:
    """Name the study's field that counts a role's examples; `data.clients` counts clients."""
    return f"data.{'train' if role == 'clients' else role}"


def _check_counts(wanted: Mapping[str, int | None]) -> None:
    for role, count in wanted.items():
        if count is not None and count < 0:
            raise DataError(f"{_field(role)}: must be 0 or more examples, not {count}")


def _allowed(dataset: Dataset, only: Only) -> dict[str, Mask]:
    if wrong := sorted(set(only) - set(ROLES)):
        raise DataError(f"data.only: {unknown('role', wrong[0], ROLES)}")
    rules = dict(only)
    if "clients" in rules:
        rules.setdefault("evaluation", rules["clients"])
    masks = {}
    for role in ROLES:
        mask = np.ones(len(dataset), bool)
        for group, values in rules.get(role, {}).items():
            mask &= np.isin(dataset.group(group), [_number(dataset, group, value) for value in values])
        masks[role] = mask
    return masks


def _number(dataset: Dataset, group: str, value: str | int) -> int:
    names = dataset.group_names.get(group)
    if isinstance(value, str):
        if names is None:
            raise DataError(
                f"data.only: the values of {group} are numbers, not {value!r}; write a number without quotes"
            )
        if value not in names:
            raise DataError(f"data.only: {unknown(f'value of {group}', value, names)}")
        return names.index(value)
    values = dataset.group(group)
    if value not in values:
        raise DataError(
            f"data.only: {group} of {dataset.name} has no value {value}; "
            f"choose a number from {values.min()} to {values.max()} that occurs"
        )
    return value


def _divide(
    values: Ints,
    wanted: Mapping[str, int | None],
    allowed: Mapping[str, Mask],
    rng: np.random.Generator,
    reserved: Ints | None = None,
) -> dict[str, Mask]:
    """Give each group value to the party that is furthest from its count, among those that may have it.

    The victims get the `reserved` values, if there are any, and no other.
    """
    parties = {"clients": ("clients", "evaluation"), "attacker": ("attacker",), "victims": ("victims",)}
    kinds, numbers = np.unique(values, return_inverse=True)
    supply = {
        party: np.bincount(numbers, np.logical_or.reduce([allowed[r] for r in roles]), len(kinds))
        for party, roles in parties.items()
    }
    counts = {party: [wanted[role] for role in roles] for party, roles in parties.items()}
    need = {party: float(sum(c for c in counts[party] if c is not None)) for party in parties}
    greedy = {party for party in parties if None in counts[party]}
    have = dict.fromkeys(parties, 0.0)
    owner = np.full(len(kinds), "", dtype=object)
    choices = {kind: [p for p in parties if supply[p][kind]] for kind in range(len(kinds))}
    if reserved is not None:
        for kind, own in enumerate(np.isin(kinds, reserved)):
            choices[kind] = [p for p in choices[kind] if (p == "victims") == own]
    # Values that fewer parties may have go first; within that, the order is random.
    for kind in sorted(rng.permutation(len(kinds)).tolist(), key=lambda k: len(choices[k])):
        hungry = [p for p in choices[kind] if have[p] < need[p] or (p in greedy and not have[p])]
        takers = hungry or [p for p in choices[kind] if p in greedy]
        if takers:
            chosen = min(takers, key=lambda p: have[p] / need[p] if need[p] else have[p])
            owner[kind] = chosen
            have[chosen] += supply[chosen][kind]
    of_example = owner[numbers]
    return {role: allowed[role] & (of_example == party) for party, roles in parties.items() for role in roles}


def _draw(
    wanted: Mapping[str, int | None], allowed: Mapping[str, Mask], overlap: Sequence[str], rng: np.random.Generator
) -> dict[str, Ints]:
    free = np.ones(len(allowed["clients"]), bool)
    drawn = {}
    # Counted roles before greedy ones, and the role with the fewest candidates first, so that none starves another.
    for role in sorted(ROLES, key=lambda r: (wanted[r] is None, int(allowed[r].sum()))):
        overlaps = role in overlap
        candidates = rng.permutation(np.flatnonzero(allowed[role] if overlaps else free & allowed[role]))
        count = wanted[role]
        if count is None and not len(candidates):
            raise DataError(f"{_field(role)}: no examples are left; take fewer for the other roles")
        if count is not None and count > len(candidates):
            raise DataError(
                f"{_field(role)}: {count} examples are more than the {len(candidates)} that are left; take fewer"
            )
        drawn[role] = candidates[:count].astype(np.int64)
        if not overlaps:
            free[drawn[role]] = False
    return drawn
