"""Send messages and collect replies over Flower's Grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from flwr.app import Message
from flwr.serverapp import Grid

from wireleak.common.wire.flower import packed

# Grid.send_and_receive polls every 3 s, which is longer than a small round takes.
POLL_SECONDS = 0.15


def exchange(
    grid: Grid,
    messages: Iterable[Message],
    timeout: float,
    *,
    pack: bool = False,
    waiting_for: Callable[[list[int]], None] | None = None,
) -> dict[int, Message | None]:
    """Send messages and wait for their replies.

    Parameters
    ----------
    grid : Grid
        Flower's link to the nodes.
    messages : iterable of Message
        At most one per node.
    timeout : float
        Seconds to wait for replies.
    pack : bool
        Pack the arrays of each message; clients reply in the same form.
    waiting_for : callable, optional
        Called with the nodes that have not replied, after each reply and at the end.

    Returns
    -------
    dict of int to (Message or None)
        Reply by node: possibly an error (Flower answers for a node that it knows to be offline), or None for a
        node that did not answer in time.
    """
    messages = list(messages)
    if pack:
        _pack(messages)
    nodes = [message.metadata.dst_node_id for message in messages]
    replies: dict[int, Message | None] = dict.fromkeys(nodes)
    # The SuperLink gives no id to a message that it rejected.
    waiting = {ident: node for ident, node in zip(grid.push_messages(messages), nodes, strict=False) if ident}
    end = time.monotonic() + timeout
    told = waiting_for or (lambda _: None)
    while waiting:
        before = len(waiting)
        for reply in grid.pull_messages(list(waiting)):
            if (node := waiting.pop(reply.metadata.reply_to_message_id, None)) is not None:
                replies[node] = reply
        if len(waiting) < before:
            told(list(waiting.values()))
        if time.monotonic() >= end:
            break
        if waiting:
            time.sleep(POLL_SECONDS)
    told([])
    return replies


def _pack(messages: list[Message]) -> None:
    # A strategy gives all clients the same content, which is then sent to the SuperLink once.
    contents = {id(message.content): message.content for message in messages}
    forms = {key: packed(content) for key, content in contents.items()}
    for message in messages:
        message.content = forms[id(message.content)]


def wait_for_nodes(grid: Grid, count: int, timeout: float) -> None:
    """Wait until `count` nodes are connected.

    Raises
    ------
    TimeoutError
        Fewer nodes connected in time.
    """
    end = time.monotonic() + timeout
    while (connected := len(list(grid.get_node_ids()))) < count:
        if time.monotonic() >= end:
            raise TimeoutError(f"clients: {connected} of {count} connected within {timeout:g} s")
        time.sleep(POLL_SECONDS)
