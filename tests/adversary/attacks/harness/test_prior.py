"""The autoencoder that an attacker trains on its own inputs."""

import numpy as np
import pytest
import torch

from adversary.attacks.harness.prior import learn_prior
from tests.adversary.attacks.gradients.inversions import smooth


def test_codes_show_inputs_like_the_attackers_own_within_the_range() -> None:
    x = smooth(96, 8, 0)
    decoder, error = learn_prior(x, (0.0, 1.0), 16, 300, 0)
    assert error < 0.5 * np.square(x - x.mean(0)).mean()
    shown = decoder(torch.randn(5, 16, generator=torch.Generator().manual_seed(0)))
    assert shown.shape == (5, 1, 8, 8) and shown.abs().max() <= 1 and not shown.requires_grad


def test_the_seed_repeats_the_training_and_leaves_the_global_generator() -> None:
    x = smooth(32, 8, 0)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, again, other = (learn_prior(x, (0.0, 1.0), 4, 10, seed)[1] for seed in (0, 0, 1))
    assert one == again != other
    assert torch.equal(state, torch.get_rng_state())


def test_too_few_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"granted\.surrogate: 5 inputs are too few to learn a prior; give 12 or more"):
        learn_prior(smooth(5, 8, 0), (0.0, 1.0), 4, 10, 0)
