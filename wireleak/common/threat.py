"""An attacker's position and knowledge: the names that studies, attacks and results share."""

from __future__ import annotations

from enum import StrEnum

SIZES_AND_TIMES = "sizes-and-times"


class Vantage(StrEnum):
    """Where the attacker sits."""

    LINK = "link"
    GATEWAY = "gateway"
    SERVER = "server"
    MALICIOUS_SERVER = "malicious-server"
    PARTICIPANT = "participant"
    MALICIOUS_PARTICIPANT = "malicious-participant"
    RELEASE = "release"


class Knows(StrEnum):
    """Knowledge of the attacker in addition to its captures."""

    NOTHING = "nothing"
    SURROGATE = "surrogate"
    QUERIES = "queries"
    PAIRS = "pairs"
    ARCHITECTURE = "architecture"
    WEIGHTS = "weights"
    HEAD = "head"
    CANDIDATES = "candidates"
    LABELS = "labels"


PARTICIPANTS = (Vantage.PARTICIPANT, Vantage.MALICIOUS_PARTICIPANT)
_ATTACKERS = {
    Vantage.LINK: "an eavesdropper on the link",
    Vantage.GATEWAY: "an eavesdropper on the gateway",
    Vantage.SERVER: "the server",
    Vantage.MALICIOUS_SERVER: "a malicious server",
    Vantage.PARTICIPANT: "a participant",
    Vantage.MALICIOUS_PARTICIPANT: "a malicious participant",
    Vantage.RELEASE: "somebody who has the released model",
}


def attacker_at(vantage: str) -> str:
    """Name the attacker at a vantage in a sentence; an unknown vantage is its own name."""
    return _ATTACKERS[Vantage(vantage)] if vantage in _ATTACKERS else vantage


def sight(name: str) -> str:
    """Name in a sentence what an attacker sees: a kind of tensor, or only sizes and times."""
    return "sizes and times" if name == SIZES_AND_TIMES else name
