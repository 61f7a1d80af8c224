"""The order in which training clients take steps: one batch of the first, then one of the second, and so on.

Steps that arrive in any order leave other weights each time, so two runs of one secret would differ. With turns they
do not.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

logger = logging.getLogger(__name__)

# A client names its node in this header of the call; a head without an order ignores it.
NODE = "wireleak-node"


class LateError(RuntimeError):
    """A client came after its turn had been given to the next; the message is one line."""


class Turns:
    """Turns of the clients of a round. Until a round begins, nobody waits for anybody.

    A client leaves the order when its stream ends, when `expect` no longer names it, or when it sends no batch in time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._order: list[str] = []
        self._late: set[str] = set()
        self._turn = ""
        self._since = 0.0
        self._timeout = 0.0
        self._round = 0

    def begin(self, order: Sequence[str], timeout: float) -> None:
        """Begin a round.

        Parameters
        ----------
        order : sequence of str
            Nodes of its clients, in their order.
        timeout : float
            Seconds that the others wait for the batch of the client whose turn it is.
        """
        with self._changed:
            self._round += 1
            self._order, self._late, self._timeout = list(order), set(), timeout
            self._give(order[0] if order else "")
            self._changed.notify_all()

    def expect(self, remaining: Collection[str]) -> None:
        """Keep only these clients in the order: the others have replied or died."""
        with self._changed:
            for gone in [name for name in self._order if name not in remaining]:
                self._leave(gone)
            self._changed.notify_all()

    @contextmanager
    def stream(self, name: str) -> Iterator[None]:
        """Keep a client in the order while its stream is open."""
        joined = self._round
        try:
            yield
        finally:
            with self._changed:
                # The stream of a killed client may end after the next round has begun.
                if joined == self._round:
                    self._leave(name)
                    self._changed.notify_all()

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Wait until it is a client's turn, and give the turn to the next one afterwards.

        Raises
        ------
        LateError
            The client has left the order, because it sent no batch in time.
        """
        with self._changed:
            while name in self._order and name != self._turn:
                left = self._since + self._timeout - time.monotonic()
                if not self._changed.wait(max(left, 0)) and time.monotonic() >= self._since + self._timeout:
                    logger.warning("client %s sent no batch for %g s and left the order", self._turn, self._timeout)
                    self._late.add(self._turn)
                    self._leave(self._turn)
                    self._changed.notify_all()
            if name in self._late:
                raise LateError(
                    f"order: this client sent no batch for {self._timeout:g} s, so the others went on; "
                    "raise system.timeout"
                )
            ordered = name in self._order
        try:
            yield
        finally:
            if ordered:
                with self._changed:
                    if self._turn == name:
                        self._give(self._after(name))
                    self._changed.notify_all()

    def _leave(self, name: str) -> None:
        if name in self._order:
            following = self._after(name)
            self._order.remove(name)
            if self._turn == name:
                self._give(following)

    def _after(self, name: str) -> str:
        return self._order[(self._order.index(name) + 1) % len(self._order)] if name in self._order else self._turn

    def _give(self, name: str) -> None:
        self._turn, self._since = name, time.monotonic()
