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
from wireleak.common.targets.target import Target
from wireleak.common.traffic import Traffic


class Attack(ABC):
    """One attack. Subclass `ActivationAttack`, `GradientAttack`, `UpdateAttack` or `ModelAttack`, not this class.

    Attributes
    ----------
    name : str
        Registry name.
    threat : ThreatModel
        What it must be granted.
    target : type of Target
        What it guesses, e.g. `Input`: its prior, baselines and scores are the target's.
    traffic : Traffic
        Which captures it reads as the victims'; each base sets its own.
    options : type of pydantic.BaseModel
        Its settings, each with a default and a description.
    report : dict
        Filled by `fit` and `guess`: facts for a reader of meta.json (sizes, choices, validation scores).
        Numbers under "measured" become rows of the results. "held_out_loss" says how well it does on examples that it
        held out of its own, by which a comparison of defences chooses the strongest of several attackers.
    """

    name: ClassVar[str]
    threat: ClassVar[ThreatModel]
    target: ClassVar[type[Target[Any]]]
    traffic: ClassVar[Traffic]
    options: ClassVar[type[BaseModel]]

    def __init__(self, settings: Any, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.report: dict[str, Any] = {}

    @classmethod
    @abstractmethod
    def observe(cls, settings: Any, config: AttackConfig, known: Knowledge) -> Observation[Any]:
        """Read the config's captures. The bases implement this."""

    @abstractmethod
    def fit(self, knowledge: Knowledge) -> None:
        """Learn from the attacker's own device. Must depend on nothing but `knowledge` and the seed."""

    def permuted(self, rng: np.random.Generator) -> Self | None:
        """Return itself, fitted to its own examples with permuted values; None where only a new fit can tell.

        For attacks whose examples cost more than learning from them: the baseline "permuted" then averages over draws.
        """
        return None

    def finish(self) -> None:  # noqa: B027 - most attacks have nothing to add
        """Measure additions to `report` after the guess: called for the attack itself, not for baselines."""


AttackT = TypeVar("AttackT", bound=Attack)


@dataclass(frozen=True, kw_only=True)
class Observation(ABC, Generic[AttackT]):
    """The captures as one attack reads them.

    Parameters
    ----------
    known : Knowledge
        Everything granted; `knowledge` joins it with what was captured.
    messages, bytes : dict of str to int
        How many messages (or TLS records) of "device" and "victims" were used, and their bytes.
    notes : tuple of str
        Remarks for the reader of meta.json.
    places : numpy.ndarray
        Int64: the victims' row of each guess. A guess may stop early.
    guessed : int
        How many rows are guessed.
    groups : int
        The guesses come in so many groups of equal size. Within a group there is no order.
    predictions : numpy.ndarray or None
        The service's answers to the victims, float32 (n, classes), where they were seen.
    """

    known: Knowledge
    messages: dict[str, int]
    bytes: dict[str, int]
    notes: tuple[str, ...]
    places: npt.NDArray[np.int64]
    guessed: int
    groups: int
    predictions: Array | None = None

    @property
    @abstractmethod
    def unseen(self) -> str | None:
        """Why nothing can be learnt or guessed; None when it can."""

    @property
    def knowledge(self) -> Knowledge:
        """The attacker's knowledge, joined with its own captures where it learns from them."""
        return self.known

    @property
    def pairs(self) -> Knowledge:
        """The attacker's knowledge, joined with its own captures in any case, for baselines."""
        return self.known

    @property
    def victims(self) -> Array | None:
        """The victims' rows, (n, ...), where they can be compared with the attacker's own; else None."""
        return None

    @abstractmethod
    def ask(self, attack: AttackT) -> Array:
        """Return a fitted attack's guess, one row for each of `places`, or fewer."""

    def others(self) -> Iterator[tuple[str, Observation[AttackT]]]:
        """Yield the observations of baselines that repeat the attack elsewhere, by the baseline's name."""
        yield from ()

    def repeats(self, other: Observation[Any]) -> bool:
        """Whether the attack would see the same bits in `other`."""
        return self is other
