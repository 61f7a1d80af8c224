"""Which epoch of its training the inversion keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from adversary.attacks.activations.reconstruction.inversion import Inversion, InversionOptions
from adversary.attacks.harness import batches
from adversary.attacks.harness.knowledge import Knowledge


@pytest.mark.parametrize(("errors", "kept"), [([3.0, 1.0, 2.0], 2), ([1.0, 2.0, 3.0], 1), ([3.0, 2.0, 1.0], 3)])
def test_the_epoch_with_the_least_error_on_held_out_pairs_is_kept(
    errors: list[float], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    def scripted(decoder: Any, *rows: Any) -> float:
        seen.append({name: value.clone() for name, value in decoder.state_dict().items()})
        return errors[len(seen) - 1]

    monkeypatch.setattr(batches, "_error", scripted)
    rng = np.random.default_rng(0)
    inputs, activations = rng.random((40, 1, 4, 4), np.float32), rng.random((40, 6), np.float32)
    known = Knowledge(activations, inputs, np.zeros(40, np.int64), None, 0, np.zeros(40, bool), 0)
    attack: Any = Inversion(InversionOptions(epochs=3), 0)
    attack.fit(known)
    assert attack.report["kept_epoch"] == kept and attack.report["validation_mse"] == min(errors)
    alike = [
        all(torch.equal(value, attack._decoder.state_dict()[name]) for name, value in weights.items())
        for weights in seen
    ]
    assert alike == [number == kept - 1 for number in range(3)]


def test_a_training_of_few_steps_has_a_schedule() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.random((10, 1, 8, 8), np.float32)
    known = Knowledge(inputs[..., ::2, ::2], inputs, np.zeros(10, np.int64), None, 0, np.zeros(10, bool), 0)
    attack: Any = Inversion(InversionOptions(epochs=1), 0)
    attack.fit(known)
    assert attack.report["decoder"] == "LocalDecoder" and np.isfinite(attack.guess(known.seen)).all()


def test_a_decoder_of_large_fan_in_learns_at_a_lower_rate() -> None:
    # At cut 2 of Omniglot the rate of small decoders ended above the linear path's own error.
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:28, :28]
    angles, centres = rng.uniform(0, np.pi, 400), rng.uniform(8, 20, (400, 2))
    across = [(rows - y) * np.cos(a) - (columns - x) * np.sin(a) for a, (y, x) in zip(angles, centres, strict=True)]
    inputs = (np.abs(across) < 1.5).astype(np.float32)[:, None]
    torch.manual_seed(0)
    encoder = [torch.nn.Conv2d(1, 16, 3, 2, 1), torch.nn.GroupNorm(1, 16), torch.nn.ReLU()]
    encoder += [torch.nn.Conv2d(16, 32, 3, 2, 1), torch.nn.GroupNorm(1, 32), torch.nn.ReLU()]
    with torch.inference_mode():
        seen = torch.nn.Sequential(*encoder)(torch.from_numpy(inputs)).numpy()
    known = Knowledge(seen, inputs, np.zeros(400, np.int64), None, 0, np.zeros(400, bool), 0)
    errors = []
    for rate in (None, 0.0065):
        attack: Any = Inversion(InversionOptions(epochs=6, learning_rate=rate), 0)
        attack.fit(known)
        errors.append(attack.report["validation_mse"])
    assert errors[0] < 0.9 * errors[1]
