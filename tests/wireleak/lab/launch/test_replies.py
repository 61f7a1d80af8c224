"""A ClientApp's reply to its node: refused parts, parts that never arrive, and tasks that end."""

import importlib
from typing import Any

import pytest

from wireleak.lab.launch import flower

pytest.importorskip("flwr")


def test_a_task_ends_for_the_node_also_when_its_reply_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # A task that the node waits for in vain makes it answer a later message with an error, and then always too late.
    module = importlib.import_module("flwr.supernode.runtime.run_clientapp")
    ended: list[str] = []

    def refuse(*_: object) -> None:
        raise RuntimeError("already stored")

    monkeypatch.setattr(module, "make_task_heartbeat_fn_http", lambda client: lambda: True)
    monkeypatch.setattr(module, "pull_task_input", lambda client: ("message", "context", None, None))
    monkeypatch.setattr(module, "push_message", refuse)
    monkeypatch.setattr(module, "push_task_output", lambda client, context, status, details: ended.append(status))
    life = flower.ClientAppLife("127.0.0.1:9", None, "builtins:dict", None)
    assert life.answer("token") is False
    assert ended == [module.SubStatus.FAILED]


def test_no_heartbeat_follows_the_end_of_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    # A node refuses it, and Flower then interrupts the process, which looks like a client that died.
    module = importlib.import_module("flwr.supernode.runtime.run_clientapp")
    monkeypatch.setattr(module, "make_task_heartbeat_fn_http", lambda client: lambda: True)
    monkeypatch.setattr(module, "pull_task_input", lambda client: ("message", "context", None, None))
    monkeypatch.setattr(module, "push_message", lambda *_: None)
    senders: list[Any] = []
    running: list[bool] = []

    class Sender(module.HeartbeatSender):  # type: ignore[name-defined, misc]
        def start(self) -> None:
            senders.append(self)
            super().start()

    monkeypatch.setattr(module, "HeartbeatSender", Sender)
    monkeypatch.setattr(module, "push_task_output", lambda *_: running.append(senders[0].is_running))
    assert flower.ClientAppLife("127.0.0.1:9", None, "builtins:dict", None).answer("token")
    assert running == [False]


def test_a_refused_part_of_a_reply_does_not_keep_back_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    # Flower stops at the first part that it refuses, and then its node waits for the others for ever.
    parts = importlib.import_module("flwr.supercore.inflatable.inflatable_protobuf_utils")
    flower.ClientAppLife("127.0.0.1:9", None, "builtins:dict", None)
    module = importlib.import_module("flwr.supernode.runtime.run_clientapp")
    pushed: list[str] = []

    class Answer:
        def __init__(self, stored: bool) -> None:
            self.stored = stored

    def answer(request: Any) -> Answer:
        pushed.append(request.object_id)
        return Answer(request.object_id != "b")

    push = module.make_push_object_fn_protobuf(answer, module.Node(node_id=1), run_id=1, session_id="s")
    for part in "abc":
        push(part, b"1")
    assert pushed == ["a", "b", "c"]
    with pytest.raises(Exception, match="Failed to push object"):
        parts.make_push_object_fn_protobuf(answer, module.Node(node_id=1), run_id=1, session_id="s")("b", b"1")


def test_a_node_drops_a_reply_of_which_a_part_never_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    # An app that dies while it pushes leaves such a reply, and Flower's node waits for the rest for ever.
    module = importlib.import_module("flwr.supernode.start_client_internal")
    waited: list[str] = []

    def push(*, state: Any, object_store: Any, send: Any) -> None:
        assert (state, send, object_store.known) == (1, 2, "yes")
        assert object_store.get("a") == b"1"
        while object_store.get("b") == b"":
            waited.append("b")
            monkeypatch.setattr(flower, "_PART_SECONDS", -1 if len(waited) > 2 else 60)

    class Store:
        known = "yes"

        def get(self, part: str) -> bytes:
            return b"1" if part == "a" else b""

    monkeypatch.setattr(module, "_push_messages", push)
    flower._wait_no_longer_for_a_part()
    with pytest.raises(TimeoutError, match="a part of the reply did not arrive"):
        module._push_messages(state=1, object_store=Store(), send=2)
    assert len(waited) == 3
