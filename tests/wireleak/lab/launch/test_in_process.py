"""A federation in one process: each client answers at once, and one client's fault costs that client only."""

from __future__ import annotations

import pytest
from flwr.app import Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from wireleak.lab.launch.in_process import Client, DirectGrid


def answering(number: float) -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if number < 0:
            raise ValueError("no examples")
        named: dict[str, int | float | list[int] | list[float]] = {"answer": number, "node": context.node_id}
        assert context.node_config["config"] == f"config-{number:g}"
        return Message(RecordDict({"metrics": MetricRecord(named)}), reply_to=message)

    return app


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> DirectGrid:
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    return DirectGrid(
        [Client(f"client {number:g}", answering(number), f"config-{number:g}") for number in (1.0, -1.0, 3.0)]
    )


def test_each_client_answers_once_and_a_broken_one_alone_fails(grid: DirectGrid) -> None:
    nodes = grid.get_node_ids()
    sent = grid.push_messages([Message(RecordDict(), node, MessageType.TRAIN) for node in nodes])
    replies = {reply.metadata.reply_to_message_id: reply for reply in grid.pull_messages(sent)}
    assert list(replies) == sent and not grid.pull_messages(sent)
    first, broken, last = replies.values()
    assert broken.has_error() and "no examples" in str(broken.error.reason)
    for reply, node, number in ((first, nodes[0], 1), (last, nodes[2], 3)):
        assert reply.metadata.src_node_id == node
        assert dict(reply.content.metric_records["metrics"]) == {"answer": number, "node": node}
