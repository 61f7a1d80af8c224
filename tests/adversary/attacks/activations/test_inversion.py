"""Which epoch of its training the inversion keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from adversary.attacks.activations.inversion import Inversion, InversionOptions
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
