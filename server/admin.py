"""Keep the head process and the ServerApp in the same round, over a loopback service that is never tapped.

Both belong to one trust domain. The head holds the weights of split training; the ServerApp counts the rounds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import UInt32Value

from server.checkpoints import head_path
from server.stage import HeadStage
from wireleak.common.config import ConfigError
from wireleak.common.wire import open_channel

_SERVICE = "wireleak.server.HeadAdmin"


class HeadAdminError(RuntimeError):
    """The head process refused or failed a request; the message is one line."""


def admin_handler(stage: HeadStage, checkpoints: Path) -> grpc.GenericRpcHandler[UInt32Value, Empty]:
    """Serve `Save` and `Load` of a round's head."""

    def load(server_round: int) -> None:
        if server_round:
            stage.load(head_path(checkpoints, server_round))
        else:
            stage.reset()

    return grpc.method_handlers_generic_handler(
        _SERVICE,
        {
            "Save": _unary(lambda server_round: stage.save(head_path(checkpoints, server_round))),
            "Load": _unary(load),
        },
    )


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
        self._call("Save", server_round)

    def load(self, server_round: int) -> None:
        """Make the head load this round's checkpoint; 0 is the untrained head."""
        self._call("Load", server_round)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _call(self, method: str, server_round: int) -> None:
        call = self._channel.unary_unary(
            f"/{_SERVICE}/{method}",
            request_serializer=UInt32Value.SerializeToString,
            response_deserializer=Empty.FromString,
        )
        try:
            call(UInt32Value(value=server_round), timeout=self._timeout)
        except grpc.RpcError as error:
            reason = f"{method.lower()} round {server_round}: {error.details()}"
            raise HeadAdminError(f"head at {self._address}: {reason}") from error


def _unary(action: Callable[[int], None]) -> grpc.RpcMethodHandler[UInt32Value, Empty]:
    def handle(request: UInt32Value, context: grpc.ServicerContext) -> Empty:
        try:
            action(request.value)
        except (OSError, ConfigError) as error:
            context.abort(grpc.StatusCode.INTERNAL, " ".join(str(error).split()))
        return Empty()

    return grpc.unary_unary_rpc_method_handler(
        handle, request_deserializer=UInt32Value.FromString, response_serializer=Empty.SerializeToString
    )
