"""Rounds over a Grid that plays the clients: averaging, checkpoints, resumption, losses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Strategy
from safetensors.numpy import load_file

from server import checkpoints
from server.admin import HeadAdminError
from server.config import ServerConfig
from server.rounds import RoundError, Rounds
from server.strategies import strategy
from wireleak.common.config import ConfigError, Plugin
from wireleak.common.plan import TrainingPlan
from wireleak.common.wire import encode_tensor, open_channel
from wireleak.common.wire.flower import as_received, unpacked
from wireleak.common.wire.split_head_pb2_grpc import SplitHeadStub
from wireleak.common.wire.turns import NODE

Client = Callable[[Message], Message | None]


class PlayedGrid:
    """Node i is clients[i]; a client that returns None stays silent, as a killed one does."""

    def __init__(self, clients: dict[int, Client]) -> None:
        self.clients = clients
        self.waiting: dict[str, Message] = {}
        self.seen: list[tuple[int, int, str]] = []

    def get_node_ids(self) -> Iterable[int]:
        return list(self.clients)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        idents = []
        for message in messages:
            ident = str(len(self.seen))
            message.metadata.__dict__["_message_id"] = ident
            content = unpacked(message.content) or message.content
            server_round = content.config_records["config"]["server-round"]
            assert isinstance(server_round, int)
            self.seen.append((message.metadata.dst_node_id, server_round, message.metadata.message_type))
            if (reply := self.clients[message.metadata.dst_node_id](message)) is not None:
                self.waiting[ident] = reply
            idents.append(ident)
        return idents

    def pull_messages(self, idents: Iterable[str]) -> list[Message]:
        return [self.waiting.pop(ident) for ident in list(idents) if ident in self.waiting]


def adds(amount: float, examples: int) -> Client:
    """An honest client whose training adds `amount` to every weight."""

    def answer(message: Message) -> Message:
        if message.metadata.message_type == "evaluate":
            scores = MetricRecord({"num-examples": examples, "evaluation-loss": amount, "evaluation-accuracy": 0.5})
            return Message(RecordDict({"metrics": scores}), reply_to=message)
        weights = message.content.array_records["arrays"]
        arrays = ArrayRecord({k: Array(v.numpy() + np.float32(amount)) for k, v in weights.items()})
        scores = MetricRecord({"num-examples": examples, "train-loss": amount})
        return Message(RecordDict({"arrays": arrays, "metrics": scores}), reply_to=message)

    return answer


def poisons(message: Message) -> Message | None:
    return adds(float("nan"), 10)(message)


def claims(examples: int) -> Client:
    """A client that says that it trained on more examples than it registered."""
    return adds(9.0, examples)


def raises(message: Message) -> Message:
    return Message(Error(3, "train: cannot read shard"), reply_to=message)


def silent(message: Message) -> None:
    return None


def run(
    settings: dict[str, Any], played: dict[int, Client], rule: Strategy | None = None, **changes: Any
) -> tuple[PlayedGrid, list[Any]]:
    plan = settings["plan"] | {"timeout": 0.3}
    plan |= {name: changes.pop(name) for name in list(changes) if name in TrainingPlan.model_fields}
    config = ServerConfig.model_validate(settings | {"clients": len(played), "plan": plan} | changes)
    grid = PlayedGrid(played)
    rule = rule or FedAvg(min_train_nodes=1, min_evaluate_nodes=1, min_available_nodes=1)
    Rounds(config, rule, cast(Grid, grid)).run()
    history = json.loads(config.history.read_text())
    assert history["mode"] == config.plan.mode
    return grid, history["rounds"]


def stages(settings: dict[str, Any], server_round: int) -> list[dict[str, Any]]:
    folder = Path(settings["checkpoints"])
    return [load_file(folder / f"{stage}-{server_round}.safetensors") for stage in ("encoder", "head")]


def initial(settings: dict[str, Any]) -> dict[str, Any]:
    network = ServerConfig.model_validate(settings).model.network()
    return {name: value.numpy() for name, value in network.blocks.state_dict().items()}


def test_federated_rounds_average_the_whole_network(settings: dict[str, Any]) -> None:
    _, history = run(settings, {1: adds(1.0, 30), 2: adds(2.0, 10)}, mode="federated")
    encoder, head = stages(settings, 2)
    start = initial(settings)
    assert set(encoder) == {name for name in start if name[0] in "01"}
    assert set(head) == set(start) - set(encoder)
    for name, value in (encoder | head).items():
        np.testing.assert_allclose(value, start[name] + 2 * 1.25, rtol=1e-5, atol=1e-5)
    assert [entry["train_loss"] for entry in history] == [1.25, 1.25]
    assert history[0]["evaluation_accuracy"] == 0.5
    assert history[0]["trained"] == history[0]["evaluated"] == [1, 2]


def mirrors(client: Client) -> Client:
    """The client as a ClientApp: it answers in the form in which it is asked."""
    answer = as_received(lambda message, _: cast(Message, client(message)))
    return lambda message: answer(message, cast(Any, None))


def test_packed_rounds_give_the_same_weights_and_a_damaged_update_is_dropped(settings: dict[str, Any]) -> None:
    forms: list[bool] = []

    def watched(message: Message) -> Message | None:
        forms.append("packed" in message.content.config_records)
        return mirrors(adds(1.0, 30))(message)

    def damages(message: Message) -> Message | None:
        reply = mirrors(adds(1.0, 10))(message)
        if reply is not None and "packed" in reply.content:
            cast(ConfigRecord, reply.content["packed"])["packed"] = b""
        return reply

    run(settings, {1: watched, 2: adds(2.0, 10)}, mode="federated", rounds=1)
    plain = stages(settings, 1)
    assert forms == [False, False]
    settings["checkpoints"] += "-packed"
    played = {1: watched, 2: mirrors(adds(2.0, 10)), 3: damages}
    _, history = run(settings, played, mode="federated", rounds=1, pack=True)
    assert forms == [False, False, True, True]
    for one, other in zip(plain, stages(settings, 1), strict=True):
        assert {name: value.tobytes() for name, value in one.items()} == {n: v.tobytes() for n, v in other.items()}
    (dropped,) = history[0]["dropped"]
    assert dropped["client"] == 3 and dropped["reason"].startswith("its packed arrays cannot be read")


@pytest.mark.parametrize("name", ["fedavg", "krum", "median", "trimmed-mean", "central-dp"])
def test_the_server_keeps_every_update_as_it_came_whatever_its_rule_does_with_it(
    settings: dict[str, Any], tmp_path: Path, name: str
) -> None:
    """Flower's median and trimmed mean take the arrays out of the replies."""
    options = {"noise_multiplier": 0.1, "clipping_norm": 0.5} if name == "central-dp" else {}
    rule = strategy(Plugin(name=name, options=options), 4)
    played = {node: adds(0.5 + node, 10) for node in range(1, 5)}
    _, history = run(settings, played, rule, mode="federated", rounds=1, record=tmp_path / "received")
    for node in played:
        folder = tmp_path / "received" / str(node)
        before, after = (load_file(folder / f"round-1-{what}.safetensors") for what in ("start", "end"))
        assert set(after) == set(before) == set(initial(settings))
        for layer, value in after.items():
            np.testing.assert_allclose(value - before[layer], 0.5 + node, rtol=1e-4)
    standing = history[0]["standing"]
    # By the median length of the others, which are 1.5, 2.5, 3.5 and 4.5 long in units of the network's size.
    ratios = [standing[str(node)]["norm-ratio"] for node in played]
    assert ratios == pytest.approx([1.5 / 3.5, 2.5 / 3.5, 3.5 / 2.5, 4.5 / 2.5], rel=1e-4)
    assert all(one["cosine"] == pytest.approx(1, abs=1e-4) for one in standing.values())
    # On one line, each is as far from the mean as its amount from 3, in each of the coordinates that count.
    outliers = np.array([standing[str(node)]["outlier"] for node in played])
    size = min(10_000, sum(value.size for value in initial(settings).values()))
    np.testing.assert_allclose(outliers, size * np.square(np.arange(1, 5) - 2.5), rtol=1e-3)


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(("name", "noise"), [("norm-clipping", {}), ("central-dp", {"noise_multiplier": 1e-9})])
def test_a_client_that_changes_nothing_does_not_end_a_run_that_clips(
    settings: dict[str, Any], name: str, noise: dict[str, float]
) -> None:
    """Clipping divides by an update's length. Of clients 1 to 3, the last one sends the model as it came."""
    rule = strategy(Plugin(name=name, options={"clipping_norm": 3.0} | noise), 3)
    run(settings, {1: adds(1.0, 10), 2: adds(-1e-4, 10), 3: adds(0.0, 10)}, rule, mode="federated", rounds=1)
    encoder, head = stages(settings, 1)
    start = initial(settings)
    size = sum(value.size for value in start.values())
    # The first is far too long: its length becomes 3. The second is short enough.
    for layer, value in (encoder | head).items():
        np.testing.assert_allclose(value - start[layer], (3 / size**0.5 - 1e-4) / 3, atol=1e-6)


def test_split_rounds_average_encoders_and_save_the_live_head(settings: dict[str, Any], start_head: Any) -> None:
    head = start_head()
    Path(settings["ready"]).write_text(json.dumps({"admin": f"127.0.0.1:{head.admin_port}"}))
    run(settings, {1: adds(1.0, 10), 2: adds(3.0, 10)}, rounds=1)
    encoder, saved = stages(settings, 1)
    np.testing.assert_allclose(encoder["0.0.bias"], initial(settings)["0.0.bias"] + 2, rtol=1e-6)
    for name, value in head.stage.head.state_dict().items():
        np.testing.assert_array_equal(saved[name], value.numpy())

    # Weights that wandered off after the checkpoint are taken back before the next round.
    for parameter in head.stage.head.parameters():
        parameter.data += 5
    run(settings, {1: adds(1.0, 10)}, rounds=2)
    assert all(np.array_equal(stages(settings, 2)[1][name], saved[name]) for name in saved)


def test_a_stream_that_the_head_refused_stands_in_the_history(
    settings: dict[str, Any], start_head: Any, train_request: Any
) -> None:
    head = start_head()
    Path(settings["ready"]).write_text(json.dumps({"admin": f"127.0.0.1:{head.admin_port}"}))

    def lies(message: Message) -> Message | None:
        if message.metadata.message_type == "train":
            with open_channel(f"127.0.0.1:{head.port}") as channel, suppress(grpc.RpcError):
                bad = train_request(label=encode_tensor(np.full(4, -1)))
                list(SplitHeadStub(channel).Train(iter([bad]), metadata=((NODE, "2"),)))
        return adds(1.0, 10)(message)

    _, history = run(settings, {1: adds(1.0, 10), 2: lies}, rounds=1)
    reason = "label.data: labels -1..-1 outside 0..2"
    assert history[0]["dropped"] == [{"client": 2, "phase": "head", "reason": reason}]


def test_rounds_resume_where_a_run_was_cut(settings: dict[str, Any]) -> None:
    clients = {1: adds(1.0, 10), 2: adds(1.0, 10)}
    run(settings, clients, mode="federated", rounds=2)
    # The third round was cut between the two files: it does not count.
    folder = Path(settings["checkpoints"])
    (folder / "encoder-3.safetensors").write_bytes((folder / "encoder-2.safetensors").read_bytes())
    grid, history = run(settings, clients, mode="federated", rounds=4)
    assert sorted(set(grid.seen)) == sorted((n, r, t) for n in (1, 2) for r in (3, 4) for t in ("train", "evaluate"))
    assert [entry["round"] for entry in history] == [1, 2, 3, 4]
    np.testing.assert_allclose(stages(settings, 4)[0]["0.0.bias"], initial(settings)["0.0.bias"] + 4, rtol=1e-5)
    grid, again = run(settings, clients, mode="federated", rounds=4)
    assert grid.seen == []
    assert again == history


def test_bad_lost_and_silent_clients_leave_the_round_to_the_others(settings: dict[str, Any]) -> None:
    clients = {1: adds(1.0, 10), 2: poisons, 3: raises, 4: silent}
    grid, history = run(settings, clients, mode="federated")
    np.testing.assert_allclose(stages(settings, 2)[0]["0.0.bias"], initial(settings)["0.0.bias"] + 2, rtol=1e-5)
    first = {(entry["client"], entry["phase"]): entry["reason"] for entry in history[0]["dropped"]}
    assert first[2, "train"] == "metric train-loss is no finite number"
    assert first[3, "train"] == first[3, "evaluate"] == "train: cannot read shard"
    assert first[4, "train"] == "did not answer in time"
    # A client that let a phase run into its timeout is not asked again; one that failed is.
    assert [seen for seen in grid.seen if seen[0] == 4] == [(4, 1, "train")]
    assert (3, 2, "train") in grid.seen


@pytest.mark.parametrize("name", ["fedavg", "krum", "median", "trimmed-mean", "central-dp"])
def test_a_claim_of_more_examples_than_registered_is_left_out_under_every_strategy(
    settings: dict[str, Any], name: str
) -> None:
    options = {"noise_multiplier": 1e-9, "clipping_norm": 1e5} if name == "central-dp" else {}
    rule = strategy(Plugin(name=name, options=options), 5)
    played = {node: adds(1.0, 10) for node in range(1, 5)} | {5: claims(1 << 62)}
    registered = [{"train": 10, "evaluation": 10}] * 5
    _, history = run(settings, played, rule, mode="federated", rounds=1, registered=registered)
    np.testing.assert_allclose(stages(settings, 1)[0]["0.0.bias"], initial(settings)["0.0.bias"] + 1, rtol=1e-4)
    reason = "metric num-examples is 4611686018427387904, but the client registered 10"
    assert history[0]["dropped"] == [{"client": 5, "phase": phase, "reason": reason} for phase in ("train", "evaluate")]
    assert history[0]["trained"] == [1, 2, 3, 4]


def test_of_many_rounds_only_the_last_are_kept(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "KEPT", 2)
    _, history = run(settings, {1: adds(1.0, 10)}, mode="federated", rounds=4)
    kept = {path.name for path in Path(settings["checkpoints"]).iterdir()}
    assert kept == {f"{stage}-{number}.safetensors" for stage in ("encoder", "head") for number in (3, 4)}
    assert [entry["round"] for entry in history] == [1, 2, 3, 4]


def test_a_run_without_any_usable_update_ends(settings: dict[str, Any]) -> None:
    with pytest.raises(
        RoundError, match=r"^round 1: no client sent a usable update; client 1: train: cannot read shard$"
    ):
        run(settings, {1: raises}, mode="federated")
    with pytest.raises(TimeoutError, match="clients: 1 of 3 connected"):
        run(settings, {1: raises}, mode="federated", clients=3)


def test_split_training_without_a_head_says_so(settings: dict[str, Any]) -> None:
    with pytest.raises(HeadAdminError, match="start `python -m server head` first"):
        run(settings, {1: adds(1.0, 1)})
    Path(settings["ready"]).write_text('{"admin": "127.0.0.1:1"}')
    with pytest.raises(HeadAdminError, match=r"head at 127.0.0.1:1: load round 0"):
        run(settings, {1: adds(1.0, 1)})
    _, history = run(settings, {1: adds(1.0, 1)}, mode="federated")
    assert len(history) == 2


def test_a_checkpoint_of_another_model_is_refused(settings: dict[str, Any]) -> None:
    run(settings, {1: adds(1.0, 1)}, mode="federated", rounds=1)
    other = settings["model"] | {"classes": 7}
    with pytest.raises(ConfigError, match=r"checkpoints: .*not of cut 2 of strided28"):
        run(settings, {1: adds(1.0, 1)}, mode="federated", model=other)
