"""Inverting Gradients on small smooth pictures: one step, several local steps, batches."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from adversary.attacks.gradients.descent import descend, flattened, softened
from adversary.attacks.gradients.gradient_matching import total_variation, victim
from adversary.attacks.gradients.inverting_gradients import InvertingGradients, InvertingOptions
from benchmarks.gradients import captured
from tests.adversary.attacks.gradients.inversions import federate, run, smooth
from wireleak.common.measures.scores.matching import match

LENET = {"name": "dlg-lenet-relu", "input_shape": (1, 12, 12), "classes": 4, "cut": 1}
SMOOTH = LENET | {"name": "dlg-lenet"}


def errors(guess: Any, truth: Any) -> Any:
    """Mean squared error of each input, matched."""
    return np.square(guess[match(guess, truth)] - truth).mean((1, 2, 3))


def test_one_picture_comes_back_from_a_network_with_relu() -> None:
    x = smooth(1, 12, 1)
    known = federate(LENET, x[None], np.array([[2]]))
    found = run(attack := InvertingGradients(InvertingOptions(iterations=80, refine=80), 0), known)
    assert errors(found, x)[0] < 0.1 * np.square(x - x.mean()).mean()
    assert attack.report["labels"] == [[2]] and attack.report["distance"][0] < 1e-3


def test_the_length_of_the_gradient_does_not_matter() -> None:
    known = federate(SMOOTH, smooth(1, 12, 1)[None], np.array([[2]]))
    assert known.training is not None
    (update,) = known.training.updates
    longer = {name: value + 7 * (update.end[name] - value) for name, value in update.start.items()}
    scaled = replace(known, training=replace(known.training, updates=(replace(update, end=longer),)))
    attack = InvertingOptions(iterations=30, refine=30)
    one, other = (run(InvertingGradients(attack, 0), seen) for seen in (known, scaled))
    assert np.square(one - other).mean() < 0.01 < np.square(one - one.mean()).mean()


def test_several_local_steps_are_imitated() -> None:
    x, y = smooth(2, 12, 3), np.array([0, 1])
    known = federate(LENET, x[None], y[None], epochs=5, rate=1.0)
    angles = []
    assert known.training is not None and known.recipe is not None
    once = known.recipe.plan.model_copy(update={"epochs": 1})
    for recipe in (known.recipe, replace(known.recipe, plan=once)):
        one = victim(known.training.updates[0], known.network(), recipe, 2)
        made, sent = (
            torch.cat([g.flatten() for g in all_])
            for all_ in (one.imitate(*map(torch.from_numpy, (x, y))), one.gradients.values())
        )
        angles.append(1 - torch.cosine_similarity(made, sent, dim=0).item())
    assert angles[0] < 1e-5 and angles[1] > 1e-3
    one_picture = federate(SMOOTH, x[:1, None], y[:1, None], epochs=3)
    found = run(InvertingGradients(InvertingOptions(iterations=30, refine=60), 0), one_picture)
    assert errors(found, x[:1])[0] < 5e-3


def test_a_batch_is_found_as_a_set() -> None:
    x = smooth(2, 12, 5)
    known = federate(SMOOTH, x[None], np.array([[0, 2]]))
    options = InvertingOptions(iterations=60, refine=100, labels="biases")
    found = run(attack := InvertingGradients(options, 0), known)
    assert found.shape == x.shape and attack.report["labels"] == [[0, 2]]
    assert errors(found, x).max() < 5e-3


def test_the_best_of_its_starts_is_kept_by_the_objective_alone() -> None:
    known = federate(LENET, smooth(1, 12, 1)[None], np.array([[2]]))
    few, many = (InvertingGradients(InvertingOptions(iterations=24, refine=0, restarts=n), 0) for n in (1, 4))
    run(few, known), run(many, known)
    assert many.report["distance"][0] <= few.report["distance"][0]


def test_the_refinement_ends_where_steps_of_one_size_cannot() -> None:
    x = smooth(1, 12, 1)
    known = federate(SMOOTH, x[None], np.array([[2]]))
    steps, both = (InvertingGradients(InvertingOptions(iterations=i, refine=r), 0) for i, r in ((200, 0), (50, 150)))
    rough, fine = (errors(run(attack, known), x)[0] for attack in (steps, both))
    # 45 dB, at the same number of evaluations.
    assert fine < 10**-4.5 < 10 * rough
    assert both.report["distance"][0] < 0.01 * steps.report["distance"][0]


def test_relus_soften_with_the_temperature_and_are_exact_at_zero() -> None:
    x, y = smooth(2, 12, 3), np.array([0, 1])
    known = federate(LENET, x[None], y[None])
    assert known.training is not None and known.recipe is not None
    one = victim(known.training.updates[0], known.network(), known.recipe, 2)
    soft, temperature = softened(one)
    inputs, labels = torch.from_numpy(x).double(), torch.from_numpy(y)
    gaps = []
    for temperature.value in (0.0, 0.01, 0.1, 1.0):
        gap = flattened(soft.imitate(inputs, labels)) - flattened(soft.gradients.values())
        gaps.append(gap.norm().item())
    assert temperature.layers == 3 and gaps[0] < 1e-4 and gaps == sorted(gaps)


def test_the_descent_stays_within_its_bounds() -> None:
    goal = torch.tensor([[0.3, 2.0], [-5.0, -0.9]], dtype=torch.float64)
    found = descend(lambda u: 1e-9 * (u - goal).square().sum(), torch.zeros(2, 2, dtype=torch.float64), 30)
    torch.testing.assert_close(found, goal.clamp(-1, 1))


@pytest.mark.study
def test_the_work_of_the_published_tools_is_done_past_40_db() -> None:
    found = []
    for digit in (1000, 1101, 1203):
        known, truth = captured(digit, 0)
        found.append(-10 * np.log10(errors(run(InvertingGradients(InvertingOptions(), 0), known), truth)[0]))
    assert np.mean(found) > 40 and min(found) > 35


def test_total_variation_is_the_mean_of_absolute_differences() -> None:
    x = np.random.default_rng(0).random((2, 3, 5, 7))
    expected = np.abs(np.diff(x, axis=2)).mean() + np.abs(np.diff(x, axis=3)).mean()
    assert total_variation(torch.from_numpy(x)).item() == pytest.approx(expected)
    assert total_variation(torch.rand(2, 9)).item() == 0
