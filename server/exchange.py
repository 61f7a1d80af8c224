"""Send messages and collect replies over Flower's Grid."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from wireleak.common.wire.flower import packed

# Grid.send_and_receive polls every 3 s, which is longer than a small round takes.
POLL_SECONDS = 0.15
# A reply may be this many times as large as the model: masked updates have 8 bytes a weight, and 4 without masks.
_TIMES, _FREE_BYTES = 4, 16 << 20


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


def bound_replies(model_bytes: int) -> None:
    """Make the Grid leave out a reply that is too large or cannot be rebuilt, and answer with an error in its place.

    Flower's Grid does so where objects of a reply are missing. Any other fault in one reply would end the whole run,
    and a reply of gigabytes, or a few bytes that name one chunk a million times, would fill the memory. The bound
    holds from one of the reply's objects to the next; each object was received whole.
    """
    module: Any = importlib.import_module("flwr.superlink.grid.http_grid")
    inflatable: Any = importlib.import_module("flwr.supercore.inflatable.inflatable_utils")
    pull, most = inflatable.pull_objects, _TIMES * model_bytes + _FREE_BYTES

    def pulled(object_ids: list[str], pull_object_fn: Callable[[str], bytes], **named: Any) -> dict[str, bytes]:
        received = 0

        def bounded(ident: str) -> bytes:
            nonlocal received
            content = pull_object_fn(ident)
            received += len(content)
            if received > most:
                raise inflatable.ObjectPullError(ident, f"it is larger than {most} bytes")
            return content

        contents: dict[str, bytes] = pull(object_ids, bounded, **named)
        try:
            if sum(_rebuilt_bytes(content, contents) for content in contents.values()) > most:
                raise ValueError(f"its arrays are larger than {most} bytes")
            # A tree is listed from its leaves to its root.
            message = inflatable.inflate_object_from_contents(object_ids[-1], contents, keep_object_contents=True)
            if not isinstance(message, Message):
                raise TypeError("it is no message")
        except Exception as error:
            raise inflatable.ObjectPullError(object_ids[-1], f"it cannot be read: {error}") from error
        return contents

    module.pull_objects = pulled


def _rebuilt_bytes(content: bytes, contents: dict[str, bytes]) -> int:
    """Return the size of the array that an object would become: it may name one chunk many times."""
    head, _, body = content.partition(b"\0")
    kind, children, _ = head.decode().split(" ")
    if kind != "Array":
        return 0
    sizes = [len(contents[child]) for child in children.split(",") if child]
    return sum(sizes[place] for place in json.loads(body)["arraychunk_ids"])


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
