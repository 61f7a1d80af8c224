"""A ClientApp's process that dies at any request of a task: its node has one reply to send, or drops what it has."""

import importlib
import math
import os
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wireleak.lab.launch import flower
from wireleak.lab.launch.federation import free_ports

pytest.importorskip("flwr")

RUN, NODE = 7, 11


class Death(BaseException):
    """Ends a process at a request."""


def die(*_: int) -> None:
    """End the calling thread, as the end of its process would."""
    raise Death


class RequestError(Exception):
    """Makes one request fail; the process goes on."""


class Node:
    """A node of Flower's, with its own store and Runtime API. This process stands in for its SuperLink."""

    def __init__(self, port: int) -> None:
        self.loop: Any = importlib.import_module("flwr.supernode.start_client_internal")
        self.objects = importlib.import_module("flwr.supercore.object_store").ObjectStoreFactory()
        factory = importlib.import_module("flwr.supernode.nodestate").NodeStateFactory(self.objects)
        app = importlib.import_module("flwr.supernode.main").create_app(state_factory=factory)
        self.address = f"127.0.0.1:{port}"
        self.state: Any = factory.state()
        self.state.set_node_id(NODE)
        uvicorn: Any = importlib.import_module("uvicorn")
        self.server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        self.token = ""

    def give(self) -> None:
        """Give the node a message for its app, and claim its task."""
        app: Any = importlib.import_module("flwr.app")
        parts: Any = importlib.import_module("flwr.supercore.inflatable.inflatable_object")
        run = importlib.import_module("flwr.supercore.run").Run.create_empty(RUN)
        run.fab_hash = self.state.store_fab(importlib.import_module("flwr.supercore.fab").Fab("", b"bundle", {}))
        self.state.store_run(run)
        self.state.set_run_series_context(run.series_id, app.Context(RUN, NODE, {}, app.RecordDict(), {}))
        identity: Any = importlib.import_module("flwr.supercore.task_identity").TaskIdentity
        identity._task_id, identity._run_id, identity._node_id = 1, RUN, 1
        # An object that the node holds is not sent again, so that each message has other values.
        message = app.Message(
            app.RecordDict({"arrays": app.ArrayRecord([np.random.default_rng().random(3)])}), NODE, "train"
        )
        message.metadata.__dict__["_message_id"] = message.object_id
        contents = {name: part.deflate() for name, part in parts.get_all_nested_objects(message).items()}
        tree = parts.get_object_tree(message)
        empty = importlib.import_module("flwr.app.message").remove_content_from_message(message)
        self.loop._pull_and_store_message(
            state=self.state,
            object_store=self.objects.store(),
            node_config={},
            receive=lambda: (empty, tree),
            get_run=None,
            get_fab=None,
            pull_object=lambda run, part: contents[part],
            confirm_message_received=lambda *_: None,
            trusted_entities=None,
        )
        (task,) = self.state.get_tasks(statuses=["pending"])
        self.token = self.state.claim_task(task.task_id)

    def expire(self) -> None:
        """Let the time pass after which Flower takes a silent app for dead."""
        for record in self.state.task_token_store.values():
            record.active_until -= timedelta(hours=1)

    def send_replies(self) -> list[Any]:
        """Return what the node's loop sends; it waits for ever if there is nothing."""
        sent: list[Any] = []

        def send(message: Any, tree: Any, _: float) -> tuple[set[str], str]:
            sent.append(message)
            return {part.object_id for part in self.loop.iterate_object_tree(tree)}, "session"

        arguments = {"send": send, "push_object": lambda *_: None}
        loop = threading.Thread(
            target=self.loop._push_messages,
            kwargs={"state": self.state, "object_store": self.objects.store(), **arguments},
            daemon=True,
        )
        loop.start()
        loop.join(5)
        assert not loop.is_alive(), "the node waits for a reply"
        return sent


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    loop = importlib.import_module("flwr.supernode.start_client_internal")
    monkeypatch.setattr(loop, "_push_messages", loop._push_messages)
    monkeypatch.setattr(flower, "_PART_SECONDS", 0.2)
    # If a thread pushes for an expired task, Flower ends the thread's process, which here is pytest's. If its node has
    # gone, the thread tries again for minutes, and pytest waits for it.
    retries = importlib.import_module("flwr.supercore.retry.http_retry")
    monkeypatch.setattr(retries, "os", SimpleNamespace(getpid=os.getpid, kill=die))
    monkeypatch.setattr(retries, "_RETRYABLE_TRANSPORT_ERRORS", ())
    flower._wait_no_longer_for_a_part()
    made = Node(*free_ports(1))
    while not made.server.started:
        time.sleep(0.01)
    yield made
    made.server.should_exit = True
    made.thread.join()


def reply(message: Any, context: Any) -> Any:
    """Answer as a ClientApp does."""
    app = importlib.import_module("flwr.app")
    return app.Message(app.RecordDict({"arrays": message.content["arrays"]}), reply_to=message)


def live(node: Node, monkeypatch: pytest.MonkeyPatch, requests: float, end: type[BaseException] = Death) -> list[str]:
    """Answer a message; die, or fail, at the next of so many requests. Return the requests made."""
    client = importlib.import_module("flwr.supercore.runtime").RuntimeHttpClient
    ask = client._unary_unary
    made: list[str] = []

    def asking(self: Any, *, rpc_method: str, **named: Any) -> Any:
        if len(made) == requests:
            if end is RequestError:
                made.append("none")
            raise end
        made.append(rpc_method.rpartition("/")[2])
        return ask(self, rpc_method=rpc_method, **named)

    with monkeypatch.context() as patched:
        patched.setattr(client, "_unary_unary", asking)
        life = flower.ClientAppLife(node.address, None, f"{__name__}:reply", None)
        if requests == math.inf:
            assert life.answer(node.token)
        elif end is RequestError:
            assert not life.answer(node.token)
        else:
            with pytest.raises(Death):
                life.answer(node.token)
    return made


@pytest.mark.parametrize("end", [Death, RequestError])
def test_whenever_a_client_app_dies_or_fails_its_node_goes_on(
    node: Node, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    beating = importlib.import_module("flwr.supernode.runtime.run_clientapp")
    monkeypatch.setattr(beating, "HeartbeatSender", lambda _: SimpleNamespace(start=bool, stop=bool))
    node.give()
    requests = live(node, monkeypatch, math.inf)
    assert {"PullTaskInput", "PullMessages", "PullObject", "PushMessages", "PushObject"} < set(requests)
    assert [message.has_error() for message in node.send_replies()] == [False]
    # Pushes are tried again; one that fails after all has lost the node.
    tried = requests if end is Death else requests[: requests.index("PushMessages")]
    for count, next_request in enumerate(tried):
        node.give()
        live(node, monkeypatch, count, end)
        if end is Death:
            flower.ClientAppLife(node.address, None, None, None).answer_for(node.token, "the ClientApp was killed")
        taken = "PullMessages" in requests[:count]
        if taken:
            node.expire()
        (sent,) = node.send_replies()
        replied = "PushMessages" in requests[:count]
        assert sent.has_error() != replied, next_request
        if sent.has_error():
            killed = "the ClientApp was killed" if end is Death else "RequestError"
            assert ("ClientApp stopped responding." if taken else killed) in sent.error.reason, next_request
