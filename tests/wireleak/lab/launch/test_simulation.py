"""The virtual nodes of a simulation in the order of their clients, though they answer one by one."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import Error, Message, MessageType, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from wireleak.lab.launch import simulation
from wireleak.lab.launch.simulation import _in_order


class OneAnswerAtATime:
    """A grid of Flower's as the nodes see it: an answer is there once, and asking again for it is an error."""

    def __init__(self) -> None:
        self.nodes = {30: 2, 10: 0, 20: 1}  # node: its client's number
        self.sent: dict[str, Message] = {}
        self.taken: set[str] = set()

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)

    def push_messages(self, messages: list[Message]) -> list[str]:
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"ask {message.metadata.dst_node_id}"
            self.sent[message.metadata.message_id] = message
        return list(self.sent)

    def pull_messages(self, asked: list[str]) -> list[Message]:
        gone = [
            Message(Error(0, "Message Unavailable"), reply_to=self.sent[ident])
            for ident in asked
            if ident in self.taken
        ]
        waiting = [ident for ident in asked if ident not in self.taken][:1]
        self.taken |= set(waiting)
        return gone + [self._answer(self.sent[ident]) for ident in waiting]

    def _answer(self, message: Message) -> Message:
        place = MetricRecord({"partition": self.nodes[message.metadata.dst_node_id]})
        return Message(RecordDict({"place": place}), reply_to=message)


def test_nodes_are_ordered_by_their_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    monkeypatch.setattr(simulation, "_POLL_SECONDS", 0.0)
    grid: Any = OneAnswerAtATime()
    assert _in_order(grid, 3) == [10, 20, 30]
    assert {message.metadata.message_type for message in grid.sent.values()} == {MessageType.QUERY}
