"""The client's check of gradients: its score against scikit-learn's, its verdict on honest heads and on others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from client.config import HeadConfig
from client.watch import LIMIT, WINDOW, Watch, batch_likeness
from wireleak.common.head.encoder import train_split
from wireleak.common.head.link import connect
from wireleak.common.models import ModelConfig, build
from wireleak.common.models.training import Training
from wireleak.common.plan import ClientPlan


def test_the_likeness_is_scikit_learn_s_cosines() -> None:
    draw = np.random.default_rng(0)
    labels, gradient = draw.integers(0, 3, 20), draw.standard_normal((20, 2, 3, 3)).astype(np.float32)
    cosine = cosine_similarity(gradient.reshape(20, -1))
    within = [cosine[i, j] for i in range(20) for j in range(i) if labels[i] == labels[j]]
    across = [cosine[i, j] for i in range(20) for j in range(i) if labels[i] != labels[j]]
    assert batch_likeness(labels, gradient) == pytest.approx(np.mean(within) - np.mean(across), rel=1e-5)
    assert batch_likeness(labels, 1e-9 * gradient) == pytest.approx(batch_likeness(labels, gradient), rel=1e-3)
    assert batch_likeness(np.zeros(20, np.int64), gradient) is None
    assert batch_likeness(np.arange(20), gradient) is None
    gradient[:18] = 0  # two rows are left: one pair is not of both kinds
    assert batch_likeness(labels, gradient) is None


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("cut", [1, 4])
def test_no_false_alarm_on_an_honest_head(start_head: Any, classes: int, cut: int) -> None:
    """Random images with random labels: an honest head has nothing to learn, and is still told from a hijacker."""
    draw = np.random.default_rng(2)
    model = ModelConfig(name="strided28", input_shape=(1, 28, 28), classes=classes, cut=cut, seed=5)
    head = start_head(model=model.model_dump())
    inputs, labels = draw.random((WINDOW, 1, 28, 28), dtype=np.float32), draw.integers(0, classes, WINDOW)
    watch = Watch(classes)
    encoder, _ = model.network().split(cut)
    with connect(where(head), model) as stub:
        train_split(
            encoder,
            stub,
            inputs,
            labels,
            Training(ClientPlan(epochs=2, batch=32, learning_rate=0.002), (0, 1)),
            see=watch.see,
        )
    verdict = watch.verdict()
    assert verdict["gradient-likeness"] > 2 * LIMIT
    assert verdict["hijack-suspected"] == 0
    assert len(watch.scores) == 2
    assert watch.noticed_after is None


def where(head: Any) -> HeadConfig:
    from client.config import HeadConfig

    return HeadConfig(address=f"127.0.0.1:{head.port}")


def test_gradients_that_ignore_the_labels_are_noticed_at_the_first_complete_stretch() -> None:
    """What FSHA sends: the gradient of a critic's mean, here by torch through a critic nobody trained."""
    draw, watch = np.random.default_rng(1), Watch(2)
    encoder, _ = build("strided28", (1, 28, 28), 2, 0).split(2)
    critic = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1568, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
    for step in range(20):
        activation = encoder(torch.rand(64, 1, 28, 28)).detach().requires_grad_()
        critic(activation).mean().backward()
        assert activation.grad is not None
        watch.see(draw.integers(0, 2, 64), activation.grad.numpy())
        assert (watch.noticed_after is None) == (64 * (step + 1) < WINDOW)
    assert watch.noticed_after == WINDOW
    assert watch.verdict()["hijack-suspected"] == 1
    assert abs(watch.verdict()["gradient-likeness"]) < LIMIT / 2


def test_one_hijacked_stretch_among_honest_ones_is_enough() -> None:
    draw, watch = np.random.default_rng(3), Watch(2)
    for stretch in ("honest", "hijacked", "honest"):
        labels = draw.integers(0, 2, WINDOW)
        sign = 2.0 * labels - 1 if stretch == "honest" else np.ones(WINDOW)
        watch.see(labels, (sign[:, None] + 0.1 * draw.standard_normal((WINDOW, 8))).astype(np.float32))
    assert watch.scores[0] > 1.5 and abs(watch.scores[1]) < LIMIT and watch.scores[2] > 1.5
    assert watch.verdict()["hijack-suspected"] == 1
    assert watch.noticed_after == 2 * WINDOW


def test_too_little_to_judge() -> None:
    watch = Watch(2)
    assert watch.verdict() == {}
    watch.see(np.zeros(8, np.int64), np.ones((8, 3), np.float32))
    assert watch.verdict() == {}
    watch.see(np.array([0, 1, 0, 1]), np.ones((4, 3), np.float32))
    assert watch.verdict() == {"gradient-likeness": 0.0, "hijack-suspected": 1.0, "hijack-noticed-after": 12.0}
    with pytest.raises(ValueError, match="watch: needs 2 classes"):
        Watch(1)
