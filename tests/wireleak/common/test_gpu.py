"""A product on the device is numpy's, and a device without memory leaves it to numpy."""

import sys
from typing import Any

import numpy as np
import pytest
import torch

from wireleak.common import gpu

RNG = np.random.default_rng(0)
ONE, OTHER = RNG.standard_normal((30, 400)), RNG.standard_normal((50, 400)).T


def test_torch_is_asked_only_where_it_is_loaded(monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert gpu.gpu() == torch.device("cuda")
    monkeypatch.delitem(sys.modules, "torch")
    assert gpu.gpu() is None


@pytest.mark.parametrize("device", ["cpu", "meta", None])
def test_a_large_product_goes_to_the_device_and_a_small_one_does_not(monkeypatch: Any, device: Any) -> None:
    asked = []

    def place() -> Any:
        asked.append(device)
        return None if device is None else torch.device(device)

    monkeypatch.setattr(gpu, "gpu", place)
    assert np.array_equal(gpu.product(ONE, OTHER), ONE @ OTHER) and not asked
    monkeypatch.setattr(gpu, "_WORTH", 1000)
    if device == "meta":  # has no values, so only the way there can be seen
        with pytest.raises(NotImplementedError, match="meta"):
            gpu.product(ONE, OTHER)
    else:
        np.testing.assert_allclose(gpu.product(ONE, OTHER), ONE @ OTHER, rtol=1e-12)
    assert asked == [device]


def test_a_device_without_memory_leaves_it_to_the_cpu(monkeypatch: Any) -> None:
    def full(*arguments: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpu, "gpu", lambda: torch.device("cpu"))
    monkeypatch.setattr(gpu, "_WORTH", 0)
    monkeypatch.setattr(torch, "from_numpy", full)
    assert np.array_equal(gpu.product(ONE, OTHER), ONE @ OTHER)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: torch sees none")
def test_a_product_on_the_gpu_is_numpys(monkeypatch: Any) -> None:
    monkeypatch.setattr(gpu, "_WORTH", 0)
    np.testing.assert_allclose(gpu.product(ONE, OTHER), ONE @ OTHER, rtol=1e-10)
