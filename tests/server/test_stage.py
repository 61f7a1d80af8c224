"""The shared head is the same after a hostile batch as before it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from server.stage import HeadStage
from wireleak.common.models import ModelConfig
from wireleak.common.wire.service import OverflowedError

MODEL = ModelConfig.model_validate({"name": "post105", "input_shape": [1, 105, 105], "classes": 2, "cut": 3, "seed": 1})


def test_huge_numbers_leave_no_trace_in_weights_or_batchnorm() -> None:
    stage = HeadStage(MODEL, 0.01)
    label = np.array([0, 1], np.int64)
    kept = {name: value.clone() for name, value in stage.head.state_dict().items()}
    assert any("running_var" in name for name in kept)
    for value in (3e38, 1e25):
        with pytest.raises(OverflowedError):
            activation = np.full((2, *stage.activation_shape), value, np.float32)
            activation[1] *= -1
            stage.step(activation, label)
        torch.testing.assert_close(stage.head.state_dict(), kept, rtol=0, atol=0)
