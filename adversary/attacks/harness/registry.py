"""Attacks by name: ours, and those that installed packages add through the entry point group "wireleak.attacks"."""

from __future__ import annotations

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel

from adversary.attacks.harness.knowledge import Array, Captured, Knowledge, activations
from adversary.attacks.harness.threat import ThreatModel

GROUP = "wireleak.attacks"
_OURS = (
    "adversary.attacks.hidden.covert",
    "adversary.attacks.activations.unpaired",
    "adversary.attacks.activations.inversion",
    "adversary.attacks.activations.attributes",
    "adversary.attacks.activations.sizes",
    "adversary.attacks.activations.post_decoder",
    "adversary.attacks.activations.candidates",
    "adversary.attacks.activations.rmle",
    "adversary.attacks.activations.inverse_network",
    "adversary.attacks.activations.shadow",
    "adversary.attacks.activations.unsplit",
    "adversary.attacks.activations.known_pairs",
    "adversary.attacks.activations.ladder",
    "adversary.attacks.activations.word_set",
    "adversary.attacks.labels.label_norm",
    "adversary.attacks.labels.label_cosine",
    "adversary.attacks.labels.label_match",
    "adversary.attacks.activations.fsha",
    "adversary.attacks.updates.property",
    "adversary.attacks.updates.localise",
    "adversary.attacks.hidden.song_low_bits",
    "adversary.attacks.hidden.song_sign",
    "adversary.attacks.hidden.song_correlated",
    "adversary.attacks.hidden.song_capacity",
    "adversary.attacks.updates.member_loss",
    "adversary.attacks.updates.member_shadow",
    "adversary.attacks.updates.member_embedding",
    "adversary.attacks.gradients.dlg",
    "adversary.attacks.gradients.idlg",
    "adversary.attacks.gradients.inverting_gradients",
    "adversary.attacks.gradients.first_layer",
    "adversary.attacks.gradients.imprint",
    "adversary.attacks.gradients.dager",
    "adversary.attacks.hidden.secret_sharer",
)


class Attack(ABC):
    """One attack. A subclass declares what it is, and is found by name once it is registered.

    Attributes
    ----------
    name : str
        Registry name.
    threat : ThreatModel
        What it must be granted.
    targets : "input", "attribute", "label", "member", "secret" or "canary"
        What it guesses: whole inputs, one private attribute, the labels of training examples, whether records were
        trained on, what a malicious participant hid, or which numbers were planted in a client's text.
    reads : "serve", "train" or "updates"
        Which captures it is handed as the victims': of devices that ask for predictions, of clients in split training,
        or of Flower's own traffic; the last comes decoded as `Knowledge.training`, and `read` is not asked.
    options : type of pydantic.BaseModel
        Its settings, each with a default and a description.
    report : dict
        Filled by `fit` and `guess`: what a reader of meta.json should know (sizes, choices, validation scores).
        Numbers under "measured" become rows of the results. "held_out_loss" says how well it does on examples that it
        held out of its own, by which a comparison of defences chooses the strongest of several attackers.
    """

    name: ClassVar[str]
    threat: ClassVar[ThreatModel]
    targets: ClassVar[Literal["input", "attribute", "label", "member", "secret", "canary"]]
    reads: ClassVar[Literal["serve", "train", "updates"]] = "serve"
    options: ClassVar[type[BaseModel]]

    def __init__(self, settings: Any, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.report: dict[str, Any] = {}

    def read(self, paths: Sequence[Path], count: int) -> Captured:
        """What this attack makes of captures in which a device sent `count` inputs: one row an input."""
        return activations(paths, count)

    @abstractmethod
    def fit(self, knowledge: Knowledge) -> None:
        """Learn from the attacker's own device. Must depend on nothing but `knowledge` and the seed."""

    @abstractmethod
    def guess(self, seen: Array) -> Array:
        """Guess for rows of what was captured.

        Parameters
        ----------
        seen : numpy.ndarray
            Float32 (n, ...): rows as `read` gives them. For attacks on updates (n, 2): sender and round of each update
            in `Knowledge.training`, or for "member", "secret" and "canary" (n, 1): a number for each row to guess.

        Returns
        -------
        numpy.ndarray
            Float32: (n, *input_shape), or probabilities (n, classes).
        """

    def permuted(self, rng: np.random.Generator) -> Attack | None:
        """Itself, fitted to its own examples with their values dealt out at random; None where only a new fit tells.

        For attacks whose examples cost more than learning from them: the control "permuted" then averages over draws.
        """
        return None

    def finish(self) -> None:  # noqa: B027 - most attacks have nothing to add
        """Measure what `report` should hold beyond the guess: asked of the attack itself after it, not of controls."""


_registered: dict[str, type[Attack]] = {}


def register(attack: type[Attack]) -> type[Attack]:
    """Class decorator: make `attack` known under its name.

    Raises
    ------
    ValueError
        The name is another attack's.
    """
    other = _registered.get(attack.name)
    if other is not None and other.__qualname__ != attack.__qualname__:
        raise ValueError(f"attack: {attack.name!r} is registered twice, by {other.__module__} and {attack.__module__}")
    _registered[attack.name] = attack
    return attack


def attacks() -> dict[str, type[Attack]]:
    """Every attack by name.

    Raises
    ------
    ValueError
        An installed package's attack cannot be loaded.
    """
    for module in _OURS:
        importlib.import_module(module)
    for point in entry_points(group=GROUP):
        register(_load(point))
    return dict(sorted(_registered.items()))


def find(name: str) -> type[Attack]:
    """Return the attack called `name`.

    Raises
    ------
    ValueError
        There is none.
    """
    known = attacks()
    if name not in known:
        raise ValueError(f"attack: no attack called {name!r}; choose one of {', '.join(known)}")
    return known[name]


def summary(attack: type[Attack]) -> str:
    """First sentence of the attack's docstring."""
    return (inspect.getdoc(attack) or "").split("\n\n")[0].replace("\n", " ")


def _load(point: EntryPoint) -> type[Attack]:
    try:
        attack = point.load()
    except Exception as error:  # somebody else's code: whatever it raises is one clear line of ours
        raise ValueError(f"attack: entry point {point.name!r} ({point.value}) cannot be loaded: {error}") from error
    if not (isinstance(attack, type) and issubclass(attack, Attack)):
        raise ValueError(
            f"attack: entry point {point.name!r} ({point.value}) is no adversary.attacks.harness.registry.Attack"
        )
    return attack
