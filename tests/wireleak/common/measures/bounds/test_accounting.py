"""The accountant against the epsilons that the post published, against Opacus and against a closed form."""

import math
from typing import Any

import numpy as np
import pytest

from wireleak.common.measures.bounds.accounting import ORDERS, Conversion, epsilon, joint_noise_multiplier

# Section 2.4: noise -> n = 13,180 classic, n = 11,000 classic, 13,180 improved, 11,000 improved.
TABLE = {0.7: (4.02, 4.64, 3.39, 3.95), 0.5: (12.47, 14.23, 11.35, 13.00), 0.3: (84.66, 96.22, 82.16, 93.72)}
COLUMNS: tuple[tuple[int, Conversion], ...] = (
    (13_180, "classic"),
    (11_000, "classic"),
    (13_180, "improved"),
    (11_000, "improved"),
)


@pytest.mark.parametrize("noise", TABLE)
def test_the_posts_epsilons_are_computed_again(noise: Any) -> None:
    got = [epsilon(noise, 32 / n, 8238, 1e-5, conversion) for n, conversion in COLUMNS]
    assert got == pytest.approx(TABLE[noise], abs=0.005)
    printed = {0.7: 4.0, 0.5: 12.5, 0.3: 84.7}
    assert round(got[0], 1) == printed[noise]


@pytest.mark.parametrize(("noise", "rate", "steps", "delta"), [(1.1, 0.01, 1000, 1e-5), (0.4, 0.1, 50, 1e-6)])
def test_it_is_opacus_s_own_accountant_on_the_same_orders(noise: float, rate: float, steps: int, delta: float) -> None:
    from opacus.accountants import RDPAccountant

    theirs = RDPAccountant()
    theirs.history = [(noise, rate, steps)]
    assert epsilon(noise, rate, steps, delta) == pytest.approx(theirs.get_epsilon(delta, alphas=list(ORDERS)), rel=1e-9)


def test_without_sampling_it_is_the_gaussian_mechanism() -> None:
    """Oracle: rho-zCDP's conversion, rho + 2 sqrt(rho log(1/delta)), rho = steps / (2 noise^2) (Bun, Steinke 2016)."""
    steps, noise, delta = 3, 2.5, 1e-6
    rho = steps / (2 * noise**2)
    fine = np.arange(1.01, 40, 0.01).tolist()
    want = rho + 2 * math.sqrt(rho * math.log(1 / delta))
    assert epsilon(noise, 1.0, steps, delta, "classic", fine) == pytest.approx(want, rel=1e-5)
    assert want <= epsilon(noise, 1.0, steps, delta, "classic") < 1.02 * want
    assert epsilon(noise, 1.0, steps, delta) < want


def test_less_is_spent_with_more_noise_fewer_steps_and_rarer_samples() -> None:
    base = epsilon(1.0, 0.02, 500, 1e-5)
    assert epsilon(1.2, 0.02, 500, 1e-5) < base
    assert epsilon(1.0, 0.02, 400, 1e-5) < base
    assert epsilon(1.0, 0.01, 500, 1e-5) < base
    assert epsilon(1.0, 0.02, 500, 1e-6) > base
    assert epsilon(1.0, 0.02, 500, 1e-5, "classic") > base
    assert epsilon(1.0, 0.02, 0, 1e-5) == 0
    assert epsilon(0.0, 0.02, 1, 1e-5) == math.inf


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((-1, 0.1, 1, 1e-5), "noise_multiplier"),
        ((math.nan, 0.1, 1, 1e-5), "noise_multiplier"),
        ((1, 0, 1, 1e-5), "sample_rate"),
        ((1, 1.1, 1, 1e-5), "sample_rate"),
        ((1, 0.1, -1, 1e-5), "steps"),
        ((1, 0.1, 1, 0), "delta"),
        ((1, 0.1, 1, 1), "delta"),
    ],
)
def test_what_cannot_be_is_named(arguments: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        epsilon(*arguments)


@pytest.mark.parametrize("parts", [(0.8, 0.8), (0.5, 2.0), (3.0, 1.0, 1.0)])
def test_mechanisms_that_one_record_touches_at_once_are_one_with_less_noise(parts: Any) -> None:
    """Oracle: Opacus' Renyi divergence of each, which without sampling adds up."""
    from opacus.accountants.analysis import rdp

    each = [rdp.compute_rdp(q=1.0, noise_multiplier=part, steps=7, orders=list(ORDERS)) for part in parts]
    together = rdp.compute_rdp(q=1.0, noise_multiplier=joint_noise_multiplier(*parts), steps=7, orders=list(ORDERS))
    np.testing.assert_allclose(together, np.sum(each, axis=0), rtol=1e-9)


def test_two_alike_have_the_noise_over_root_two() -> None:
    assert joint_noise_multiplier(1.3, 1.3) == pytest.approx(1.3 / math.sqrt(2))
    # Sampled once for both: not the sum of two mechanisms that sample by themselves.
    assert epsilon(joint_noise_multiplier(1.3, 1.3), 0.01, 1000, 1e-5) > epsilon(1.3, 0.01, 2000, 1e-5)
