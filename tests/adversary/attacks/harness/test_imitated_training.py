"""An attacker that imitates a client trains as the client does, privately too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adversary.attacks.harness.training import Recipe
from client.private import train_private
from wireleak.common.models import build
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import ClientPlan, PrivacyConfig

PLAN = ClientPlan(rounds=1, epochs=2, batch=10, learning_rate=0.1, optimiser="sgd")
PRIVATE = PrivacyConfig(noise_multiplier=0.7, max_grad_norm=1.0, optimiser="adam")


@pytest.mark.parametrize("privacy", [None, PRIVATE], ids=["plain", "dp-sgd"])
def test_with_a_client_s_seed_an_imitation_is_the_client_s_model(privacy: PrivacyConfig | None) -> None:
    draw = np.random.default_rng(0)
    inputs, labels = draw.random((30, 1, 28, 28), dtype=np.float32), draw.integers(0, 3, 30)
    client, attacker, other = (build("strided28", (1, 28, 28), 3, 5).blocks for _ in range(3))
    how = Training(PLAN, (4, 1))
    if privacy is None:
        train_whole(client, inputs, labels, how)
    else:
        train_private(client, inputs, labels, how, privacy)
    Recipe(PLAN, 2, 30, privacy=privacy).imitate(attacker, inputs, labels, (4, 1))
    Recipe(PLAN, 2, 30, privacy=None if privacy else PRIVATE).imitate(other, inputs, labels, (4, 1))
    same = [torch.equal(client.state_dict()[name], value) for name, value in attacker.state_dict().items()]
    assert same and all(same)
    assert not torch.equal(client.state_dict()["0.0.weight"], other.state_dict()["0.0.weight"])
