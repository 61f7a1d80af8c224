"""Label attacks on gradients that crossed a real, tapped Train link, made by torch from heads that the test knows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from adversary.attacks.harness.gradient_attack import GradientAttack
from adversary.attacks.harness.gradients import Gradients, gradients
from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.harness.registry import ATTACKS
from adversary.attacks.labels.windows import directions, windows
from wireleak.common.models import ModelConfig, save_weights
from wireleak.common.wire import bind, decode_tensor, encode_tensor, open_channel
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire import split_head_pb2_grpc as rpc

MODEL = ModelConfig(name="strided28", input_shape=(1, 28, 28), classes=3, cut=4, seed=5)
BATCHES = (10, 10, 7, 5)


class Head(rpc.SplitHeadServicer):
    """The true head, never trained: the mean cross-entropy's gradient, by torch."""

    Describe = rpc.SplitHeadServicer.Describe
    Predict = rpc.SplitHeadServicer.Predict

    def __init__(self) -> None:
        _, self.head = MODEL.network().split(MODEL.cut)

    def Train(self, requests: Any, context: Any) -> Iterator[pb.TrainResponse]:  # noqa: N802
        for request in requests:
            z = torch.from_numpy(decode_tensor(request.activation).copy()).requires_grad_()
            label = torch.from_numpy(decode_tensor(request.label).copy())
            loss = torch.nn.functional.cross_entropy(self.head(z), label)
            (gradient,) = torch.autograd.grad(loss, z)
            yield pb.TrainResponse(
                sequence=request.sequence, activation_gradient=encode_tensor(gradient.numpy()), loss=loss.item()
            )


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two clients' captures, what they sent, and the head's weights on file."""
    folder, draw, service = tmp_path_factory.mktemp("labels"), np.random.default_rng(0), Head()
    server = grpc.server(ThreadPoolExecutor(4))
    rpc.add_SplitHeadServicer_to_server(service, server)
    port = bind(server, "127.0.0.1:0")
    server.start()
    links = [
        {
            "name": f"client-{number}",
            "listen": "127.0.0.1:0",
            "upstream": f"127.0.0.1:{port}",
            "capture": str(folder / f"{number}.pcap"),
        }
        for number in (0, 1)
    ]
    config, ready = folder / "relay.json", folder / "ready.json"
    config.write_text(json.dumps({"links": links, "ready": str(ready)}))
    relay = subprocess.Popen([sys.executable, "-m", "adversary", "relay", "--config", str(config)])
    sent = []
    try:
        deadline = time.monotonic() + 120
        while not ready.exists():
            assert relay.poll() is None and time.monotonic() < deadline, "the relay did not start"
            time.sleep(0.02)
        addresses = json.loads(ready.read_text())["links"]
        for number in (0, 1):
            z = [draw.random((size, 32, 1, 1), dtype=np.float32) for size in BATCHES]
            labels = [draw.integers(0, 3, size) for size in BATCHES]
            requests = [
                pb.TrainRequest(sequence=i, activation=encode_tensor(a), label=encode_tensor(b))
                for i, (a, b) in enumerate(zip(z, labels, strict=True))
            ]
            with open_channel(addresses[f"client-{number}"]) as channel:
                assert len(list(rpc.SplitHeadStub(channel).Train(iter(requests), timeout=60))) == len(BATCHES)
            sent.append((np.concatenate(z), np.concatenate(labels)))
        relay.terminate()
        assert relay.wait(60) == 0
    finally:
        relay.kill()
        relay.wait()
        server.stop(None)
    save_weights(service.head, folder / "head.safetensors")
    all_z, all_labels = (np.concatenate(part) for part in zip(*sent, strict=True))
    yield SimpleNamespace(paths=[folder / "0.pcap", folder / "1.pcap"], z=all_z, labels=all_labels, head=service.head,
                          weights=folder / "head.safetensors")  # fmt: skip
    shutil.rmtree(folder)


def known(frequencies: list[int], **changes: Any) -> Knowledge:
    """An attacker that knows nothing but how frequent the classes are."""
    labels = np.repeat(np.arange(len(frequencies)), frequencies)
    n = len(labels)
    fields: dict[str, Any] = {
        "seen": np.zeros(0, np.float32),
        "inputs": np.zeros((n, 1), np.float32),
        "labels": labels,
        "attribute": None,
        "classes": len(frequencies),
        "augmented": np.zeros(n, bool),
        "seed": 0,
    }
    return Knowledge(**fields | changes)


def run(name: str, knowledge: Knowledge, seen: Any, **options: Any) -> npt.NDArray[np.float32]:
    kind = ATTACKS.get(name)
    attack = kind(kind.options.model_validate(options), 0)
    assert isinstance(attack, GradientAttack)
    attack.fit(knowledge)
    return attack.guess(seen)


def test_rows_are_each_example_s_own_gradient_in_the_order_sent(link: Any) -> None:
    seen = gradients(link.paths, len(link.z), activations=True)
    assert seen.activations is not None
    assert seen.values.shape == seen.activations.shape == (64, 32)
    assert seen.notes == ()
    assert seen.messages == 2 * len(BATCHES)
    z = torch.from_numpy(link.z).requires_grad_()
    loss = torch.nn.functional.cross_entropy(link.head(z), torch.from_numpy(link.labels), reduction="sum")
    (wanted,) = torch.autograd.grad(loss, z)
    np.testing.assert_allclose(seen.values, wanted.flatten(1).numpy(), rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(seen.activations, link.z.reshape(64, 32))
    assert (seen.labels == -1).all()
    assert seen.times[0] == 0 and (np.diff(seen.times) >= 0).all()
    alone = gradients(link.paths, 20)
    np.testing.assert_array_equal(alone.values, seen.values[:20])
    np.testing.assert_array_equal(alone.times, seen.times[:20])
    assert alone.notes == ("64 gradients seen of 20 examples",)
    some = gradients(link.paths, len(link.z), known=13).labels
    np.testing.assert_array_equal(some, np.concatenate([link.labels[:13], np.full(51, -1)]))


def test_matching_with_the_head_that_made_them_finds_every_label(link: Any) -> None:
    knowledge = known([1, 1, 1], model=MODEL, head=link.weights)
    kind = ATTACKS.get("label-match")
    attack = kind(kind.options(), 0)
    assert isinstance(attack, GradientAttack)
    seen = attack.read(link.paths, len(link.z))
    guess = run("label-match", knowledge, seen)
    np.testing.assert_array_equal(guess.argmax(1), link.labels)
    np.testing.assert_allclose(guess.sum(1), 1, rtol=1e-5)
    # With the wrong head it is a guess: nothing else tells the label.
    other = MODEL.model_copy(update={"seed": 77}).network().split(4)[1]
    save_weights(other, link.weights.with_name("other.safetensors"))
    wrong = run("label-match", known([1, 1, 1], model=MODEL, head=link.weights.with_name("other.safetensors")), seen)
    assert (wrong.argmax(1) == link.labels).mean() < 0.7
    with pytest.raises(ValueError, match=r"granted.head: label-match needs the head"):
        run("label-match", known([1, 1, 1], model=MODEL), seen)
    with pytest.raises(ValueError, match=r"model.cut: the head takes \(32, 1, 1\), but 31 floats were captured"):
        run("label-match", knowledge, replace(seen, values=seen.values[:, :31]))


def test_a_link_without_gradients_says_so(link: Any, captures: Any) -> None:
    seen = gradients([captures["plaintext"]["device"]], 5)
    assert len(seen) == 0
    assert seen.notes == ("0 activation gradients seen",)


def drifting(classes: int, n: int, shares: list[float], seed: int) -> tuple[Any, Any]:
    """Gradients (p - y) W of a linear head that turns as it learns, rows with their time, and the labels."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(classes, n, p=shares)
    weights, turn = draw.standard_normal((2, classes, 24))
    rows = []
    for step, label in enumerate(labels):
        head = weights * np.cos(step / n) + turn * np.sin(step / n)
        p = softmax(np.log(shares) + 0.5 * draw.standard_normal(classes) + 3 * step / n * np.eye(classes)[label])
        rows.append((p - np.eye(classes)[label]) @ head + 0.01 * draw.standard_normal(24))
    return Gradients(np.array(rows, np.float32), np.arange(n, dtype=np.float32), np.full(n, -1)), labels


def some(seen: Gradients, rows: Any) -> Gradients:
    return Gradients(seen.values[rows], seen.times[rows], seen.labels[rows])


@pytest.mark.parametrize("shares", [[0.8, 0.2], [0.3, 0.7]])
def test_two_classes_by_the_sign_of_the_cosine_and_named_by_frequency(shares: list[float]) -> None:
    seen, labels = drifting(2, 600, shares, 1)
    shuffled = np.random.default_rng(0).permutation(600)  # captures come one after the other, times do not
    guess = run("label-cosine", known([round(100 * share) for share in shares]), some(seen, shuffled))
    assert (guess.argmax(1) == labels[shuffled]).all()
    reverse = run("label-cosine", known([round(100 * share) for share in shares[::-1]]), seen)
    assert (reverse.argmax(1) != labels).all()
    seen.labels[7] = labels[7]  # one known label says more than frequencies
    assert (run("label-cosine", known([round(100 * share) for share in shares[::-1]]), seen).argmax(1) == labels).all()


def test_more_classes_by_clusters_that_are_carried_on() -> None:
    shares = [0.5, 0.2, 0.3]
    seen, labels = drifting(3, 900, shares, 2)
    guess = run("label-cosine", known([50, 20, 30]), seen)
    assert (guess.argmax(1) == labels).mean() > 0.95
    assert run("label-cosine", known([50, 20, 30]), some(seen, slice(2))).tolist() == pytest.approx(
        [pytest.approx([0.5, 0.2, 0.3])] * 2
    )


def test_the_norm_tells_the_rarer_class_and_nothing_where_there_is_none() -> None:
    seen, labels = drifting(2, 800, [0.1, 0.9], 3)
    guess = run("label-norm", known([10, 90]), seen, window=100)
    assert roc_auc_score(labels, guess[:, 1]) > 0.9
    assert (guess.argmax(1) == 0).mean() == pytest.approx(0.1, abs=0.02)
    even, labels = drifting(2, 800, [0.5, 0.5], 4)
    assert abs(roc_auc_score(labels, run("label-norm", known([50, 50]), even)[:, 1]) - 0.5) < 0.15
    with pytest.raises(ValueError, match="label-norm needs a task with 2 classes, not 3; use label-cosine"):
        run("label-norm", known([1, 1, 1]), seen)


def test_every_row_is_fresh_in_one_window() -> None:
    times = np.array([5, 1, 2, 4, 3], np.float32)
    seen = [(rows.tolist(), fresh.tolist()) for rows, fresh in windows(times, 2)]
    assert seen == [([1, 2], [True, True]), ([4, 3], [True, True]), ([3, 0], [False, True])]
    assert [rows.tolist() for rows, _ in windows(times, 9)] == [[1, 2, 4, 3, 0]]
    np.testing.assert_allclose(directions(np.array([[3, 4], [0, 0]], np.float32)), [[0.6, 0.8], [0.0, 0.0]])
