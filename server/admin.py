"""Keep the head process and the ServerApp in the same round, over a loopback service that is never tapped.

Both belong to one trust domain. The head holds the weights of split training; the ServerApp counts the rounds.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue, UInt32Value

from wireleak.common.wire import open_channel
from wireleak.common.wire.admin import ADMIN


class HeadAdminError(RuntimeError):
    """The head process refused or failed a request; the message is one line."""


class HeadAdmin:
    """Client of the head's admin service, used by the ServerApp.

    Parameters
    ----------
    ready : Path
        The head's ready file.
    timeout : float
        Seconds for one request.

    Raises
    ------
    HeadAdminError
        No head is running.
    """

    def __init__(self, ready: Path, timeout: float = 30) -> None:
        try:
            address = json.loads(ready.read_text())["admin"]
        except (OSError, ValueError, KeyError) as error:
            raise HeadAdminError(f"ready: no head runs at {ready}; start `python -m server head` first") from error
        self._address = address
        self._channel = open_channel(address)
        self._timeout = timeout

    def save(self, server_round: int) -> None:
        """Make the head write its weights as this round's checkpoint."""
        self._round("Save", server_round)

    def load(self, server_round: int) -> None:
        """Make the head load this round's checkpoint; 0 is the untrained head."""
        self._round("Load", server_round)

    def begin(self, order: Sequence[int], timeout: float) -> None:
        """Begin a round, and give the order in which its clients take steps; see `Turns.begin`."""
        self._order({"begin": list(map(str, order)), "timeout": timeout})

    def expect(self, remaining: Collection[int]) -> None:
        """Keep only these clients in the order."""
        self._order({"remaining": list(map(str, remaining))})

    def refusals(self) -> list[tuple[int, str]]:
        """Return the streams that the head refused since the last call: node, as the client stated it, and reason."""
        answer = self._call("Refusals", Empty(), "refusals", StringValue)
        return [(int(node), reason) for node, reason in json.loads(answer.value)]

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _order(self, content: dict[str, Any]) -> None:
        self._call("Order", StringValue(value=json.dumps(content)), "order")

    def _round(self, method: str, server_round: int) -> None:
        self._call(method, UInt32Value(value=server_round), f"{method.lower()} round {server_round}")

    def _call(self, method: str, request: Any, what: str, answer: type[Any] = Empty) -> Any:
        call = self._channel.unary_unary(
            f"/{ADMIN}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            return call(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise HeadAdminError(f"head at {self._address}: {what}: {error.details()}") from error
