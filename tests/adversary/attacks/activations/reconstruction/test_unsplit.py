from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from adversary.attacks.activations.reconstruction.unsplit import Unsplit, UnsplitOptions
from adversary.attacks.harness.knowledge import Knowledge
from wireleak.common.models import ModelConfig


def blobs(n: Any, seed: Any) -> Any:
    """A bright disc somewhere on black."""
    rng = np.random.default_rng(seed)
    down, right = np.mgrid[:28, :28]
    centres = rng.uniform(8, 20, (n, 2))
    far = (down - centres[:, :1, None]) ** 2 + (right - centres[:, 1:, None]) ** 2
    return np.exp(-far / 18).astype(np.float32)[:, None]


@pytest.fixture(scope="module")
def known() -> Knowledge:
    nothing = np.zeros((0, 1, 28, 28), np.float32), np.zeros(0, np.int64)
    model = ModelConfig(name="lenet", input_shape=(1, 28, 28), classes=10, cut=1, seed=0)
    return Knowledge(np.zeros(0, np.float32), *nothing, None, 0, np.zeros(0, bool), 0, model=model)


def attacked(known: Any, seen: Any, seed: Any = 0, **options: Any) -> Any:
    attack = Unsplit(UnsplitOptions(**options), seed)
    attack.fit(known.limited(attack.threat.knows))
    return attack.guess(seen), attack.report


def test_inputs_come_back_from_activations_and_the_architecture_alone(known: Knowledge) -> None:
    x = blobs(6, 0)
    with torch.no_grad():
        seen = known.network().split(1)[0](torch.from_numpy(x)).numpy()
    guess, report = attacked(known, seen, outer=20, inner_input=30, inner_model=10, l2=0.1, input_learning_rate=0.02)
    assert guess.shape == x.shape and guess.dtype == np.float32 and 0 <= guess.min() <= guess.max() <= 1
    assert report["attacked"] == 6
    # It says which of the victims it is, though it never saw a picture: its scale may be off, so correlations.
    match = np.corrcoef(guess.reshape(6, -1), x.reshape(6, -1))[:6, 6:]
    assert (match.argmax(1) == np.arange(6)).all() and np.diag(match).min() > 0.8
    assert report["final_cost"] < min(report["costs"])


def test_the_seed_decides_and_is_not_the_victims(known: Knowledge) -> None:
    seen = np.random.default_rng(0).standard_normal((2, 8, 24, 24)).astype(np.float32)
    quick = {"outer": 1, "inner_input": 2, "inner_model": 2}
    first, _ = attacked(known, seen, **quick)
    again, _ = attacked(known, seen, **quick)
    other, _ = attacked(known, seen, seed=1, **quick)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    victims = known.network().split(1)[0].state_dict()["0.1.weight"]
    assert known.model is not None
    attack = Unsplit(UnsplitOptions(), known.model.seed)
    attack.fit(known)
    assert not torch.equal(attack._clones[0].state_dict()["0.1.weight"], victims)


def test_another_cut_is_refused_in_one_line(known: Knowledge) -> None:
    with pytest.raises(ValueError, match=r"model\.cut: .*\(8, 24, 24\), the captured ones \(16, 8, 8\)"):
        attacked(known, np.zeros((2, 16, 8, 8), np.float32))
    with pytest.raises(ValueError, match=r"granted\.model"):
        Unsplit(UnsplitOptions(), 0).fit(replace(known, model=None))
