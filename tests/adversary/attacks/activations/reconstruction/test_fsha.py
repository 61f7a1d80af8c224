"""FSHA's attack: it applies the decoder that a malicious server left, and says what it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adversary.attacks.activations.reconstruction.fsha import Fsha, FshaOptions
from adversary.attacks.harness.knowledge import Knowledge
from adversary.hijack.config import HijackOptions
from adversary.hijack.fsha import Hijacker
from wireleak.common.models import ModelConfig


def known(**files: Path) -> Knowledge:
    nothing = np.zeros(0, np.float32)
    fields: dict[str, Any] = {"seen": nothing, "inputs": np.zeros((4, 1, 28, 28), np.float32), "attribute": None}
    fields |= {"labels": np.zeros(4, np.int64), "classes": 0, "augmented": np.zeros(4, bool), "seed": 0}
    return Knowledge(**fields, files=files, input_range=(0.0, 0.5))


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_it_decodes_with_what_the_malicious_server_left_last(tmp_path: Path, cut: int) -> None:
    model = ModelConfig(name="strided28", input_shape=(1, 28, 28), classes=2, cut=cut, seed=5)
    draw = np.random.default_rng(0)
    public = draw.random((32, 1, 28, 28), dtype=np.float32)
    hijacker = Hijacker(model, public, HijackOptions(width=0.5, warm_up=2), seed=3)
    seen = draw.random((300, *hijacker.activation_shape), dtype=np.float32)
    for server_round in (1, 2):
        hijacker.step(seen[:8], np.zeros(8, np.int64))
        hijacker.save(server_round, tmp_path / f"head-{server_round}.safetensors", tmp_path)
    attack = Fsha(FshaOptions(), 0)
    attack.fit(known(hijack=tmp_path))
    guess = attack.guess(seen)
    with torch.no_grad():
        wanted = hijacker.nets["decoder"].eval()(torch.from_numpy(seen))
    assert wanted.max() > 0.5  # the range that is known to the attacker limits it
    np.testing.assert_allclose(guess, wanted.clamp(0, 0.5).numpy(), rtol=1e-4, atol=1e-6)
    assert attack.report["iterations"] == 2
    assert attack.report["measured"]["training-mse"] == pytest.approx(hijacker.public_mse)
    with pytest.raises(ValueError, match=r"granted.files.hijack: the decoder takes .*, but \(3,\) was captured"):
        attack.guess(seen.reshape(300, -1)[:, :3])


def test_without_a_hijacked_training_it_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'granted.files.hijack: fsha needs the decoder .* server = "hijack"'):
        Fsha(FshaOptions(), 0).fit(known())
    with pytest.raises(ValueError, match=r"granted.files.hijack: .* holds no decoder"):
        Fsha(FshaOptions(), 0).fit(known(hijack=tmp_path))
