"""A federation in one process: the same ServerApp and ClientApps, without Flower's processes and without links.

`python -m wireleak.lab.launch.in_process --config F` trains the same models, bit by bit, as a deployment of the same
cell does, at a fraction of its cost. Nothing crosses a wire and no jail separates the parties, so it serves long sweeps
of what a run over the wire has shown. Config: `{"server": path, "clients": [{"name": name, "app": "module:name",
"config": path}, …], "nodes": path, "usage": path}`; `nodes` then maps Flower's nodes to clients.
"""

from __future__ import annotations

import logging
import pkgutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from wireleak.common.files import named_config, write_json
from wireleak.lab.launch.simulation import Usage

_RUN = 1
_FIRST_NODE = 2  # Flower's SuperLink is node 1.


class Client(NamedTuple):
    """A client's name, its app, and the config that names its own data."""

    name: str
    app: ClientApp
    config: str


class DirectGrid(Grid):
    """A grid that hands each message to its client at once, and keeps the reply until it is pulled.

    Parameters
    ----------
    clients : sequence of Client
        Their nodes are numbered from 2, in this order.
    """

    def __init__(self, clients: Sequence[Client]) -> None:
        self._clients = {
            node: (client.app, Context(_RUN, node, {"config": client.config}, RecordDict(), {}))
            for node, client in enumerate(clients, _FIRST_NODE)
        }
        self._replies: dict[str, Message] = {}

    def set_run(self, run: Any) -> None:
        """Do nothing: there is one run."""

    @property
    def run(self) -> Any:
        """Raise: a run without a SuperLink has no record there."""
        raise NotImplementedError("a federation in one process has no run at a SuperLink")

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """List the clients' nodes, in order."""
        return list(self._clients)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Have each message answered; return the messages' ids."""
        sent = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = ident = str(uuid4())
            app, context = self._clients[message.metadata.dst_node_id]
            try:
                self._replies[ident] = app(message, context)
            except Exception as error:
                # As a SuperNode does: one client's fault costs that client only.
                logging.getLogger("flwr").exception("client %d failed", message.metadata.dst_node_id)
                self._replies[ident] = Message(
                    Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(error)), reply_to=message
                )
            sent.append(ident)
        return sent

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies to these messages that were not pulled yet."""
        return [self._replies.pop(ident) for ident in message_ids if ident in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Have each message answered; return the replies."""
        return self.pull_messages(self.push_messages(messages))


def federate(server: str, clients: Sequence[Client], nodes: Path) -> None:
    """Run the ServerApp of a config with these clients, and write their nodes."""
    # Flower's messages can only be made inside a task of a run.
    TaskIdentity.task_id = TaskIdentity.run_id = _RUN
    TaskIdentity.node_id = _FIRST_NODE - 1
    grid = DirectGrid(clients)
    order = grid.get_node_ids()
    write_json(nodes, {str(node): client.name for node, client in zip(order, clients, strict=True)})
    run_config: dict[str, Any] = {"config": server, "nodes": ",".join(map(str, order))}
    pkgutil.resolve_name("server.app:app")(grid, Context(_RUN, 0, {}, RecordDict(), run_config))


def main() -> None:
    """Train the federation of the config named by `--config`."""
    config = named_config()
    usage = Usage()
    clients = [Client(one["name"], pkgutil.resolve_name(one["app"]), one["config"]) for one in config["clients"]]
    federate(config["server"], clients, Path(config["nodes"]))
    write_json(Path(config["usage"]), usage.report())


if __name__ == "__main__":
    main()
