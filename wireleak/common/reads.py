"""How much a guess rests on: the tensors, updates or rounds that were read, of those that the captures promised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wireleak.common.words import counted

# Marks a figure in every table; a note below the table says why.
MARK = "†"
VICTIMS, DEVICE = "victims", "device"
# Kinds that an encrypted link shows as well.
MESSAGE, CONNECTION = "message", "whole connection"


@dataclass(frozen=True)
class Read:
    """What an attack read of one party's traffic.

    Parameters
    ----------
    kind : str
        The thing that is counted, e.g. "activation".
    count : int
        How many were read.
    promised : int
        How many the party sent, as the study or the user says.
    party : {"victims", "device"}
        The victims, or the attacker's own device.
    """

    kind: str
    count: int
    promised: int
    party: str = VICTIMS

    @property
    def complete(self) -> bool:
        """Whether all was read that was promised."""
        return self.count >= self.promised

    @property
    def said(self) -> str:
        """The counts as text, e.g. "294 of 500 activations"."""
        of = " of the attacker's device" if self.party == DEVICE else ""
        return f"{self.count} of {counted(self.promised, self.kind)}{of}"


class Marked:
    """Something whose figures rest on what was read; `incomplete` says so where less was read than promised."""

    incomplete: str

    @property
    def mark(self) -> str:
        """`MARK` if less was read than promised, else ""."""
        return MARK if self.incomplete else ""


def together(notes: Iterable[str]) -> str:
    """Join what several figures rest on, each note once."""
    return "; ".join(dict.fromkeys(filter(None, notes)))


def incomplete(reads: Iterable[Read]) -> str:
    """Return what was read where it is less than promised, e.g. "read 294 of 500 activations"; "" where all was."""
    said = "; ".join(one.said for one in reads if not one.complete)
    return f"read {said}" if said else ""
