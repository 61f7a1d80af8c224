"""One choice of the device, and work in parts when its memory is short."""

from typing import Any

import numpy as np
import pytest
import torch

from adversary.attacks.harness.batches import Batches
from adversary.attacks.harness.device import best_device, rows_at_once, run_in_parts, seeded, step_in_parts


def test_the_device_is_the_gpu_where_torch_sees_one(monkeypatch: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert best_device().type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert best_device().type == "cpu"


def test_a_step_in_parts_is_the_whole_step() -> None:
    rows, x = np.arange(10), torch.randn(10, 3)
    made = []
    for most in (10, 3):
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 1)

        def loss_of(some: Any, layer: Any = layer, most: int = most) -> Any:
            if len(some) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return layer(x[some]).square().mean()

        parts = step_in_parts(torch.optim.SGD(layer.parameters(), 0.1), loss_of, rows, 1)
        assert parts == (1 if most == 10 else 4)
        made.append(layer.weight.detach().clone())
    assert torch.allclose(made[0], made[1], atol=1e-6)


@pytest.mark.parametrize(("longest", "moved"), [(0.5, 0.5), (np.inf, 8.0)])
def test_a_long_gradient_is_shortened(longest: float, moved: float) -> None:
    place = torch.zeros(1, requires_grad=True)
    step_in_parts(torch.optim.SGD([place], 1.0), lambda rows: 8 * place.sum(), np.arange(3), 1, longest)
    assert place.item() == pytest.approx(-moved, rel=1e-4)


def test_a_row_that_does_not_fit_is_an_error() -> None:
    def loss_of(rows: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        step_in_parts(torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1), loss_of, np.arange(3), 1)
    with pytest.raises(torch.OutOfMemoryError):
        list(run_in_parts(loss_of, np.zeros((3, 1), np.float32), 2))


def test_outputs_in_parts_are_all_outputs_in_order() -> None:
    def network(rows: Any) -> Any:
        if len(rows) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.from_numpy(rows) * 2

    rows = np.arange(10, dtype=np.float32)[:, None]
    found = [(part, out) for part, out in run_in_parts(network, rows, 8)]
    assert [part.stop - part.start for part, _ in found] == [2, 2, 2, 2, 2]
    assert torch.equal(torch.cat([out for _, out in found]), torch.from_numpy(rows) * 2)


def test_rows_at_once_fall_with_the_size_of_an_example() -> None:
    assert rows_at_once(1000) == 256 and rows_at_once(10**7) < 20 and rows_at_once(10**12) == 1


def test_seeded_draws_repeat_and_leave_the_random_state_alone() -> None:
    device = torch.device("cpu")
    with seeded(3, device):
        first = torch.rand(2)
    state = torch.random.get_rng_state()
    with seeded(3, device):
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(4, 5, 5), (20,), (9, 6)])
def test_streamed_batches_are_the_resident_ones(monkeypatch: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    seen, inputs = rng.standard_normal((12, *shape), np.float32) * 3 + 1, rng.random((12, 2, 4), np.float32)
    axes = (0, 1) if len(shape) == 2 else (0, *range(2, seen.ndim))
    fitting = np.arange(12) > 2
    made = []
    for limit in (2**30, 0):
        monkeypatch.setattr("adversary.attacks.harness.batches.RESIDENT_BYTES", limit)
        monkeypatch.setattr("wireleak.common.memory.BLOCK_BYTES", limit or 200)
        made.append(Batches(seen, inputs, fitting, axes, torch.device("cpu")))
    rows = np.array([3, 0, 7])
    kept, streamed = (one.activations(rows) for one in made)
    assert torch.allclose(kept, streamed, atol=1e-6)
    expected = (seen - seen[fitting].mean(axes, keepdims=True)) / seen[fitting].std(axes, keepdims=True)
    assert np.allclose(kept.numpy(), expected[rows], atol=1e-4)
    assert np.array_equal(made[0].inputs(rows).numpy(), inputs[rows])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: torch sees none")
def test_inversion_fits_on_the_gpu() -> None:
    from adversary.attacks.activations.reconstruction.inversion import Inversion, InversionOptions
    from adversary.attacks.harness.knowledge import Knowledge

    rng = np.random.default_rng(0)
    x = rng.random((64, 3, 32, 32), np.float32)
    known = Knowledge(x[:, :, ::2, ::2], x, np.zeros(64, np.int64), None, 0, np.zeros(64, bool), 0)
    attack = Inversion(InversionOptions(epochs=2), 0)
    attack.fit(known)
    assert attack.report["device"] == "cuda" and np.isfinite(attack.guess(known.seen)).all()
