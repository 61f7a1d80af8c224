"""The errors and the budget that decoders share."""

from __future__ import annotations

# Work that any capture may cause; each of its bytes allows one unit more. A unit is about a microsecond.
WORK = 1 << 19
# Most bytes of unfinished messages, over all calls and connections that share a `Budget`.
MAX_UNFINISHED = 160 << 20


class PayloadError(ValueError):
    """A message does not follow the format of its method; the error says how."""


class ProtocolError(ValueError):
    """The bytes break the protocol; the message says how."""


class TooMuchWorkError(ValueError):
    """Few bytes ask for much work, as no honest program's do."""


def reason_of(error: Exception) -> str:
    """Return why bytes cannot be decoded: what their decoder says of them, or what they did to it.

    Whatever hostile bytes do to a decoder, they cost their message or direction and nothing else.
    """
    if isinstance(error, PayloadError | ProtocolError | TooMuchWorkError):
        return str(error)
    return f"cannot be decoded: {type(error).__name__}: {error}"


class Budget:
    """What all streams of the captures may use together: bytes of unfinished messages, and work.

    A decoder spends work where few bytes could cause much of it. Each byte of the captures earns one unit.
    """

    def __init__(self) -> None:
        self.held = 0
        # Bytes of streams whose transport is not recognised yet.
        self.seeking = 0
        self._work = WORK

    def has_room(self, count: int = 0) -> bool:
        """Return whether so many more bytes of unfinished messages may be held."""
        return self.held + count <= MAX_UNFINISHED

    def earn(self, count: int) -> None:
        """Count bytes that arrived."""
        self._work += count

    def spend(self, units: int) -> None:
        """Count work.

        Raises
        ------
        TooMuchWorkError
            The captures' bytes do not account for it.
        """
        self._work -= units
        if self._work < 0:
            raise TooMuchWorkError("asks for far more work than its bytes account for")

    def expand(self, count: int) -> None:
        """Count bytes that are made from fewer: inflated, or copied again."""
        self.spend(count >> 8)
