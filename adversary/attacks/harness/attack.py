"""The base of every attack, and of an attack's observation: the captures as the attacker reads them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from adversary.attacks.harness.config import AttackConfig
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.threat import ThreatModel
from wireleak.common.plan import Mode
from wireleak.common.reads import Read
from wireleak.common.targets.memory import Sizes, training_memory
from wireleak.common.targets.target import Target
from wireleak.common.traffic import Traffic

# Fits to permuted values where one is cheap. One may be right, or wrong, about all victims by luck.
PERMUTATIONS = 20


class Attack(ABC):
    """An attack. Subclass `ActivationAttack`, `GradientAttack`, `UpdateAttack` or `ModelAttack`, not this class.

    Attributes
    ----------
    name : str
        Registry name.
    threat : ThreatModel
        Grants that it needs.
    target : type of Target
        The target, e.g. `Input`, which defines the prior, baselines and scores.
    traffic : Traffic
        Kind of the victims' captures; each base sets its own.
    mode : str
        Mode of the training that it attacks, for attacks on updates: "federated" or "split".
    options : type of pydantic.BaseModel
        Its settings, each with a default and a description.
    report : dict
        Filled by `fit` and `guess`: facts for a reader of meta.json (sizes, choices, validation scores).
        Numbers under "measured" become rows of the results. "held_out_loss" is the loss on the attacker's own held-out
        examples, by which a comparison of defences chooses the strongest of several attackers. "stopped" says that
        a training ended early, for want of time.
    deadline : float or None
        Time by `time.monotonic` at which a training stops with what it has.
    """

    name: ClassVar[str]
    threat: ClassVar[ThreatModel]
    target: ClassVar[type[Target[Any]]]
    traffic: ClassVar[Traffic]
    mode: ClassVar[Mode] = "federated"
    options: ClassVar[type[BaseModel]]
    # Name of the baseline that makes the same guess as the attack, if there is one.
    same_as: ClassVar[str | None] = None

    def __init__(self, settings: Any, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.report: dict[str, Any] = {}
        self.deadline: float | None = None

    @classmethod
    @abstractmethod
    def observe(cls, settings: Any, config: AttackConfig, known: Knowledge) -> Evidence[Any]:
        """Read the config's captures. The bases implement this."""

    @abstractmethod
    def fit(self, knowledge: Knowledge) -> None:
        """Train on the attacker's own device. The result must depend only on `knowledge` and the seed."""

    def memory(self, sizes: Sizes) -> int:
        """Estimate the bytes that `fit` and the guess take beyond what the process holds; checked before they start."""
        return training_memory(sizes, 0)

    @property
    def permutations(self) -> int:
        """Number of fits to permuted values; their mean score is the baseline "permuted". Costly attacks have fewer."""
        return 1

    def permuted(self, knowledge: Knowledge, rng: np.random.Generator) -> Self:
        """Return this attack, fitted to the same observations with permuted values of the attribute.

        An attack may keep all work that does not depend on the values, and fit only its last reader again.
        """
        attack = type(self)(self.settings, self.seed)
        attack.deadline = self.deadline
        attack.fit(knowledge.permuted(rng))
        return attack

    def finish(self) -> None:  # noqa: B027 - most attacks have nothing to add
        """Add measurements to `report` after the guess; called for the attack itself, not for baselines."""


AttackT = TypeVar("AttackT", bound=Attack)


@dataclass(frozen=True, kw_only=True)
class Evidence(ABC, Generic[AttackT]):
    """The captures as one attack reads them.

    Parameters
    ----------
    known : Knowledge
        Everything granted; `knowledge` joins it with the captures.
    messages, bytes : dict of str to int
        Number of messages (or TLS records) of "device" and "victims" that were used, and their bytes.
    reads : tuple of Read
        Tensors, updates or rounds that were read, of those that were promised.
    notes : tuple of str
        Remarks for the reader of meta.json.
    places : numpy.ndarray
        Int64: the victims' row of each guess. A guess may stop early.
    guessed : int
        Number of rows that are guessed.
    groups : int
        Number of groups of equal size in which the guesses come. Within a group there is no order.
    unread : numpy.ndarray
        Int64: the victims' rows that were not read though others were. Their guess is the prior, and is not scored.
    predictions : numpy.ndarray or None
        The service's answers to the victims, float32 (n, classes), if they were seen.
    """

    known: Knowledge
    messages: dict[str, int]
    bytes: dict[str, int]
    reads: tuple[Read, ...]
    notes: tuple[str, ...]
    places: npt.NDArray[np.int64]
    guessed: int
    groups: int
    unread: npt.NDArray[np.int64]
    predictions: Array | None = None

    @property
    @abstractmethod
    def unseen(self) -> str | None:
        """Reason why the attack cannot run, or None if it can."""

    @property
    def knowledge(self) -> Knowledge:
        """The attacker's knowledge, joined with its own captures if it trains on them."""
        return self.known

    @property
    def pairs(self) -> Knowledge:
        """The attacker's knowledge, always joined with its own captures, for baselines."""
        return self.known

    @property
    def victims(self) -> Array | None:
        """The victims' rows, (n, ...), if they can be compared with the attacker's own; else None."""
        return None

    @abstractmethod
    def ask(self, attack: AttackT) -> Array:
        """Return a fitted attack's guess, one row for each of `places`, or fewer."""

    def others(self) -> Iterator[tuple[str, Evidence[AttackT]]]:
        """Yield the observations of baselines that repeat the attack elsewhere, by the baseline's name."""
        yield from ()

    def repeats(self, other: Evidence[Any]) -> bool:
        """Return whether the attack would see the same bits in `other`."""
        return self is other


def unread(places: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Return the rows of `count` that are not among `places`; none where nothing was read."""
    return np.setdiff1d(np.arange(count if len(places) else 0), places)
