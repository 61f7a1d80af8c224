"""The loopback service by which the ServerApp leads the process that serves split training, honest or hijacked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue, UInt32Value

from wireleak.common.wire.turns import Turns

ADMIN = "wireleak.server.HeadAdmin"


def admin_handler(
    save: Callable[[int], None],
    load: Callable[[int], None],
    turns: Turns,
    refusals: Callable[[], list[tuple[str, str]]] = list,
) -> grpc.GenericRpcHandler[Any, Any]:
    """Serve `Save` and `Load` of a round, `Order` of its clients, and `Refusals` of their streams.

    Parameters
    ----------
    save, load : callable
        (round) -> None: write or read the round's checkpoint; round 0 is the untrained model. An OSError or ValueError
        is the answer in one line.
    turns : Turns
    refusals : callable
        () -> pairs of a node, as the client stated it, and why its stream was refused, since the last call.
    """

    def order(request: StringValue, context: grpc.ServicerContext) -> Empty:
        asked = json.loads(request.value)
        if "begin" in asked:
            turns.begin(asked["begin"], asked["timeout"])
        else:
            turns.expect(asked["remaining"])
        return Empty()

    def refused(request: Empty, context: grpc.ServicerContext) -> StringValue:
        return StringValue(value=json.dumps(refusals()))

    methods = {
        "Save": _of_round(save),
        "Load": _of_round(load),
        "Order": grpc.unary_unary_rpc_method_handler(order, StringValue.FromString, Empty.SerializeToString),
        "Refusals": grpc.unary_unary_rpc_method_handler(refused, Empty.FromString, StringValue.SerializeToString),
    }
    return grpc.method_handlers_generic_handler(ADMIN, methods)


def _of_round(action: Callable[[int], None]) -> grpc.RpcMethodHandler[UInt32Value, Empty]:
    def handle(request: UInt32Value, context: grpc.ServicerContext) -> Empty:
        try:
            action(request.value)
        except (OSError, ValueError) as error:
            context.abort(grpc.StatusCode.INTERNAL, " ".join(str(error).split()))
        return Empty()

    return grpc.unary_unary_rpc_method_handler(handle, UInt32Value.FromString, Empty.SerializeToString)
