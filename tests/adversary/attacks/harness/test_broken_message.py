"""A message that cannot be decoded costs its own row: all other rows keep their place, and the guess is marked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adversary.attacks.harness.activations import activations
from adversary.attacks.harness.gradients import gradients
from adversary.attacks.harness.run import attack
from adversary.tap.decode.observation import Kind
from adversary.tap.inspect.extract import rows as extracted
from tests.adversary.tap.conftest import Http2, conversation, data_frames, grpc_message, pcap
from wireleak.common.targets.input import Input, Inputs
from wireleak.common.targets.target import Scored
from wireleak.common.wire import encode_tensor
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.lab.steps.score import named_guesses, partly_of, score_read

BROKEN = 37
NONE = np.zeros(0, np.int64)


def call(http2: Http2, stream: int, requests: Any, answers: Any, method: str = "Predict") -> list[tuple[int, bytes]]:
    """The pieces of one call that alternates requests and answers."""
    pieces = [http2.request(stream, f"/wireleak.v1.SplitHead/{method}"), http2.response(stream)]
    for request, answer in zip(requests, answers, strict=True):
        for side, message in ((0, request), (1, answer)):
            data = message if isinstance(message, bytes) else message.SerializeToString()
            pieces.append((side, data_frames(stream, grpc_message(data))))
    return [*pieces, (0, data_frames(stream, b"", end=True)), http2.trailers(stream)]


def broken(message: Any) -> bytes:
    """A message whose tensor has more numbers than its shape says."""
    message.activation.shape[-1] += 1
    data: bytes = message.SerializeToString()
    return data


def requests(rows: Any, bad: Any = ()) -> list[Any]:
    made: list[Any] = [pb.PredictRequest(sequence=n, activation=encode_tensor(row)) for n, row in enumerate(rows)]
    return [broken(one) if number in bad else one for number, one in enumerate(made)]


def answers(rows: Any) -> list[Any]:
    return [pb.PredictResponse(sequence=n, prediction=encode_tensor(row[:, :2])) for n, row in enumerate(rows)]


def written(path: Path, *calls: Any, cut: int | None = None) -> Path:
    """A capture of calls of requests and answers, one after another on one connection."""
    http2 = Http2()
    pieces = http2.opening()
    for number, (sent, received) in enumerate(calls):
        pieces += call(http2, 2 * number + 1, sent, received)
    path.write_bytes(pcap(conversation(pieces)[:cut]))
    return path


@pytest.fixture
def victims(world: Any, tmp_path: Path) -> dict[str, Path]:
    """The victims' capture whole, with one broken message, and without that message's example."""
    rows = world.private_seen[:, None]
    less = np.delete(rows, BROKEN, 0)
    return {
        "whole": written(tmp_path / "whole.pcap", (requests(rows), answers(rows))),
        "broken": written(tmp_path / "broken.pcap", (requests(rows, [BROKEN]), answers(rows))),
        "less": written(tmp_path / "less.pcap", (requests(less), answers(less))),
    }


def test_rows_keep_their_places(world: Any, victims: dict[str, Path]) -> None:
    kept, rows = np.delete(np.arange(120), BROKEN), world.private_seen
    found = activations([victims["broken"]], 120)
    assert np.array_equal(found.places, kept) and np.array_equal(found.rows, rows[kept])
    assert found.predictions is not None and np.array_equal(found.predictions, rows[kept][:, :2])
    assert found.notes == ("119 activations seen of 120 inputs",)
    whole = activations([victims["whole"]], 120)
    assert np.array_equal(whole.places, np.arange(120)) and np.array_equal(whole.rows, rows) and not whole.notes


def test_scores_are_those_of_the_capture_without_the_example(
    config: Any, captures: Any, world: Any, victims: dict[str, Path]
) -> None:
    def scored(name: str, count: int, truth: Any) -> tuple[list[Scored], dict[str, Any]]:
        paths = {"device": [str(captures["plaintext"]["device"])], "victims": [str(victims[name])]}
        path, out = config(attack="linear", captures=paths, victims=count)
        attack(path)
        meta = json.loads((out / "meta.json").read_text())
        values, units = Inputs(truth, None, NONE, world.own, 64), np.arange(120)[-count:]
        return score_read(Input(), named_guesses(out / "guesses.npz", "linear"), values, 0, units, meta), meta

    marked, meta = scored("broken", 120, world.private)
    less, _ = scored("less", 119, np.delete(world.private, BROKEN, 0))
    assert [(one.guess, one.score.measure, one.score.value, one.score.n) for one in marked] == [
        (one.guess, one.score.measure, one.score.value, one.score.n) for one in less
    ]
    own = next(one.score for one in marked if (one.guess, one.score.measure) == ("", "mse"))
    assert own.value < 1e-4 and own.n == 119
    assert meta["unread"] == [BROKEN] and partly_of(meta)[""] == "read 119 of 120 activations"


def test_the_attacker_s_own_pairs_keep_their_places(config: Any, world: Any, captures: Any, tmp_path: Path) -> None:
    rows = world.own_seen[:, None]
    device = written(tmp_path / "device.pcap", (requests(rows, [0]), answers(rows)))
    paths = {"device": [str(device)], "victims": [str(captures["plaintext"]["victims"])]}
    path, out = config(attack="linear", captures=paths)
    attack(path)
    with np.load(out / "guesses.npz") as guesses:
        assert np.mean((guesses["linear"] - world.private) ** 2) < 1e-4
    meta = json.loads((out / "meta.json").read_text())
    assert meta["unread"] == [] and partly_of(meta)[""] == "read 359 of 360 activations of the attacker's device"


def test_a_batch_takes_as_many_rows_as_its_answer(tmp_path: Path) -> None:
    rows = [np.full((size, 4), size, np.float32) for size in (3, 5, 2, 4)]
    found = activations([written(tmp_path / "a.pcap", (requests(rows, [1]), answers(rows)))], 14)
    assert found.places.tolist() == [0, 1, 2, 8, 9, 10, 11, 12, 13]


def test_rows_after_a_call_that_was_cut_keep_their_places(tmp_path: Path) -> None:
    rows = [np.full((1, 4), number, np.float32) for number in range(6)]
    cut = written(tmp_path / "cut.pcap", (requests(rows[:4]), answers(rows[:4])), cut=12)
    whole = written(tmp_path / "whole.pcap", (requests(rows[4:]), answers(rows[4:])))
    found = activations([cut, whole], 6)
    kept = found.places.tolist()
    assert 2 < len(kept) < 6 and kept[-2:] == [4, 5] and found.rows[:, 0].tolist() == kept


def test_rows_whose_place_is_not_known_are_left_out_by_name(tmp_path: Path) -> None:
    rows = [np.full((1, 4), number, np.float32) for number in range(8)]
    paths = [
        written(tmp_path / f"{at}.pcap", (requests(rows[at : at + 4]), answers(rows[at : at + 4])), cut=12)
        for at in (0, 4)
    ]
    found = activations(paths, 8)
    assert 0 < len(found.places) < 4 and found.rows[:, 0].tolist() == found.places.tolist()
    assert "left out, because inputs before them are missing" in found.notes[-1]


def test_tensors_without_examples_are_no_rows(tmp_path: Path) -> None:
    rows = [np.float32(7), np.zeros((0, 4), np.float32), np.ones((1, 4), np.float32)]
    sent = [pb.PredictRequest(activation=encode_tensor(np.asarray(row))) for row in rows]
    found = activations([written(tmp_path / "a.pcap", (sent, answers([np.ones((1, 2), np.float32)] * 3)))], 3)
    assert np.array_equal(found.rows, np.ones((1, 4)))


def test_a_broken_gradient_costs_its_own_examples(tmp_path: Path) -> None:
    rows = [np.full((2, 4), number + 1, np.float32) for number in range(5)]
    labels = np.arange(10).reshape(5, 2)
    asked = [
        pb.TrainRequest(activation=encode_tensor(row), label=encode_tensor(label))
        for row, label in zip(rows, labels, strict=True)
    ]
    replies: list[Any] = [pb.TrainResponse(activation_gradient=encode_tensor(row), loss=1.0) for row in rows]
    replies[1].activation_gradient.shape[-1] += 1
    http2, path = Http2(), tmp_path / "train.pcap"
    path.write_bytes(pcap(conversation([*http2.opening(), *call(http2, 1, asked, replies, "Train")])))
    found = gradients([path], 10, known=10)
    assert found.places is not None and found.places.tolist() == [0, 1, 4, 5, 6, 7, 8, 9]
    assert found.values[:, 0].tolist() == [2, 2, 6, 6, 8, 8, 10, 10]
    assert extracted([path], Kind.LABEL).tolist() == list(range(10))


def test_a_label_that_cannot_be_read_leaves_the_others_in_place(tmp_path: Path) -> None:
    rows = np.ones((4, 2, 4), np.float32)
    asked = [
        pb.TrainRequest(activation=encode_tensor(row), label=encode_tensor(np.array([2 * number, 2 * number + 1])))
        for number, row in enumerate(rows)
    ]
    replies = [pb.TrainResponse(activation_gradient=encode_tensor(row), loss=1.0) for row in rows]
    http2, path = Http2(), tmp_path / "train.pcap"
    sent: list[Any] = [asked[0], broken(asked[1]), *asked[2:]]
    path.write_bytes(pcap(conversation([*http2.opening(), *call(http2, 1, sent, replies, "Train")])))
    assert extracted([path], Kind.LABEL).tolist() == [0, 1, -1, -1, 4, 5, 6, 7]
