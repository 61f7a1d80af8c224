"""The base of attacks on the activations that devices send when they ask for predictions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from adversary.attacks.harness.activations import Activations, activations
from adversary.attacks.harness.attack import Attack, Evidence, unread
from adversary.attacks.harness.config import AttackConfig
from adversary.attacks.harness.knowledge import Array, Knowledge
from wireleak.common.reads import DEVICE, Read
from wireleak.common.traffic import Traffic

_LEARNS_FROM_QUERIES = frozenset({"queries", "pairs"})


class ActivationAttack(Attack):
    """Base of attacks on activations: learn from the attacker's own device, then guess from the victims'.

    Its own baselines repeat the attack on untrained captures ("untrained") and on tensors that never crossed a wire
    ("in-process").
    """

    traffic = Traffic.SERVING

    @abstractmethod
    def guess(self, activations: Array) -> Array:
        """Guess for activations.

        Parameters
        ----------
        activations : numpy.ndarray
            Float32 (n, ...): rows as `read` gives them, one per input.

        Returns
        -------
        numpy.ndarray
            Float32: (n, *input_shape), or probabilities (n, classes).
        """

    def read(self, paths: Sequence[Path], count: int) -> Activations:
        """Read the captures of a device that sent `count` inputs: one row per input."""
        return activations(paths, count)

    @classmethod
    def observe(cls, settings: Any, config: AttackConfig, known: Knowledge) -> ServedActivations:
        """Read the captures of the attacker's device, of the victims, and of the baselines."""
        reader, captures = cls(settings, config.seed), config.captures
        device, victims = reader.read(captures.device, len(known)), reader.read(captures.victims, config.victims)
        notes = [*_notes("device", device), *_notes("victims", victims)]
        learns = bool(_LEARNS_FROM_QUERIES & set(cls.threat.knows))
        seen = served(known, device, victims, config.victims, learns)
        others: dict[str, ServedActivations] = {}
        if captures.untrained_device and captures.untrained_victims:
            untrained = reader.read(captures.untrained_device, len(known))
            untrained_victims = reader.read(captures.untrained_victims, config.victims)
            notes += [*_notes("untrained_device", untrained), *_notes("untrained_victims", untrained_victims)]
            if (fresh := _untrained(cls, config, known)) is not None:
                others["untrained"] = served(fresh, untrained, untrained_victims, config.victims, learns)
        if config.tensors is not None:
            own = _handed("device", config.tensors.device, len(known))
            handed = _handed("victims", config.tensors.victims, config.victims)
            others["in-process"] = served(known, own, handed, config.victims, learns)
        return replace(seen, notes=tuple(notes), elsewhere=others)


@dataclass(frozen=True, kw_only=True)
class ServedActivations(Evidence[ActivationAttack]):
    """Activations of the attacker's device and of the victims.

    Parameters
    ----------
    device, asked : Activations
        Activations of the attacker's own device, and of the victims.
    learns : bool
        Whether the attack trains on its own device's activations.
    elsewhere : dict of str to ServedActivations
        Observations on which baselines repeat the attack.
    """

    device: Activations
    asked: Activations
    learns: bool
    elsewhere: dict[str, ServedActivations]

    @property
    def unseen(self) -> str | None:
        """Reason why the attack cannot run, or None if it can."""
        parties = {"device": self.device} if self.learns else {}
        for party, seen in (parties | {"victims": self.asked}).items():
            if not len(seen.rows):
                return f"{party}: {'; '.join(seen.notes)}; the guess is the prior"
        if not self.learns:
            return None
        if self.device.rows.shape[1:] != self.asked.rows.shape[1:]:
            shapes = f"{self.device.rows.shape[1:]} and the victims' {self.asked.rows.shape[1:]}"
            return f"the device's activations have shape {shapes}; the guess is the prior"
        if self.pairs.augmented.all():
            return "only transformed copies of the device's inputs were seen; the guess is the prior"
        return None

    @property
    def knowledge(self) -> Knowledge:
        """The attacker's pairs of input and activation, if it trains on them."""
        return self.pairs if self.learns else self.known

    @property
    def pairs(self) -> Knowledge:
        """The attacker's pairs of input and activation."""
        return self.known.join(self.device.rows, self.device.places)

    @property
    def victims(self) -> Array | None:
        """The victims' activations, if the attacker has own ones of the same shape."""
        own = self.pairs.seen
        return self.asked.rows if len(own) and own.shape[1:] == self.asked.rows.shape[1:] else None

    def ask(self, attack: ActivationAttack) -> Array:
        """Guess for the victims' activations."""
        return attack.guess(self.asked.rows)

    def others(self) -> Iterator[tuple[str, Evidence[ActivationAttack]]]:
        """Yield the untrained captures, and the tensors that never crossed the wire, if they are given."""
        yield from self.elsewhere.items()

    def repeats(self, other: Evidence[Any]) -> bool:
        """Return whether `other` has the same activations and knowledge."""
        if not isinstance(other, ServedActivations):
            return False
        pairs = (self.device.rows, other.device.rows), (self.asked.rows, other.asked.rows)
        return self.known is other.known and all(np.array_equal(own, theirs) for own, theirs in pairs)


def served(known: Knowledge, device: Activations, victims: Activations, count: int, learns: bool) -> ServedActivations:
    """Combine the activations of a device and of victims that sent `count` inputs."""
    own = (Read("activation", len(device.rows), len(known), DEVICE),) if learns else ()
    return ServedActivations(
        known=known,
        messages={"device": device.messages, "victims": victims.messages},
        bytes={"device": device.bytes, "victims": victims.bytes},
        reads=(Read("activation", len(victims.rows), count), *own),
        notes=(),
        places=victims.places,
        guessed=len(victims.rows),
        groups=len(victims.rows),
        unread=unread(victims.places, count),
        predictions=victims.predictions,
        device=device,
        asked=victims,
        learns=learns,
        elsewhere={},
    )


def _notes(party: str, seen: Activations) -> list[str]:
    return [f"{party}: {note}" for note in seen.notes]


def _untrained(kind: type[Attack], config: AttackConfig, known: Knowledge) -> Knowledge | None:
    """Return the attack's knowledge of the untrained network, or None if its weights are not given."""
    knows = set(kind.threat.knows)
    if "head" in knows or ("weights" in knows and config.granted.untrained_encoder is None):
        return None
    return replace(known, encoder=config.granted.untrained_encoder)


def _handed(party: str, path: Path, count: int) -> Activations:
    try:
        rows = np.load(path, allow_pickle=False).astype(np.float32)
    except (OSError, ValueError) as error:
        raise ValueError(f"tensors.{party}: {path} is not a readable .npy file: {error}") from None
    places = np.arange(min(len(rows), count))
    return Activations(
        rows[:count], places, None, len(rows), rows.nbytes, () if len(rows) else ("the .npy file has no rows",)
    )
