"""Roles in the studies of the Omniglot post, and the linear code as a reference for its attacker."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wireleak.common.measures import linear_code
from wireleak.lab import data
from wireleak.lab.data.sources.omniglot import ATTACKER, VICTIMS_AS_PUBLISHED
from wireleak.lab.steps.plan import make_plan
from wireleak.lab.study.library import load_study
from wireleak.lab.study.schema import Study, StudyError

SHARED = Path(__file__).resolve().parents[5] / "shared" / "data"
needs_omniglot = pytest.mark.skipif(not (SHARED / "omniglot.npz").is_file(), reason="needs ../shared/data/omniglot.npz")


@needs_omniglot
def test_a_linear_code_as_wide_as_the_wire_keeps_what_section_2_5_says() -> None:
    small1 = data.load("omniglot", SHARED, size=105, alphabets=ATTACKER).x
    small2 = data.load("omniglot", SHARED, size=105, alphabets=VICTIMS_AS_PUBLISHED).x
    shared = data.find_overlap(small1, small2)
    assert shared.count == 1000
    unseen = np.delete(small2, shared.second, axis=0)
    assert len(unseen) == 2120
    for x, white, mean, pca in ((small1, 0.0763, 0.0625, 0.0360), (unseen, 0.0861, 0.0698, 0.0452)):
        assert (x**2).mean() == pytest.approx(white, abs=5e-5)
        assert ((x - small1.mean(0)) ** 2).mean() == pytest.approx(mean, abs=6e-5)
        assert ((linear_code(small1, x, 32) - x) ** 2).mean() == pytest.approx(pca, abs=1e-4)


def test_a_linear_code_is_the_best_of_its_width() -> None:
    """Oracle: Eckart and Young: what k components leave is the rest of the singular values, squared."""
    own = np.random.default_rng(0).standard_normal((60, 1, 4, 5)).astype(np.float32)
    left = np.linalg.svd((own - own.mean(0)).reshape(60, -1), compute_uv=False)[7:] ** 2
    assert ((linear_code(own, own, 7) - own) ** 2).sum() == pytest.approx(left.sum(), rel=1e-4)
    np.testing.assert_allclose(linear_code(own, own[:3], 20), own[:3], atol=1e-5)


@needs_omniglot
def test_the_post_s_study_repeats_its_overlap() -> None:
    study, _ = load_study("omniglot-post-28")
    alphabets = load_study("omniglot-post")[0].data.options["alphabets"]
    enough = study.data.model_copy(update={"options": {"size": 28, "alphabets": alphabets}})
    plan = make_plan(study.model_copy(update={"data": enough}), SHARED, seeds=1)
    roles = plan.first.roles
    assert plan.first.overlaps == {"victims and attacker": 1000}
    assert plan.parts(plan.first) == {"client-0": 11000, "evaluation": 2180, "attacker": 2720, "victims": 3120}
    held = {plan.dataset.classes[label] for label in plan.dataset.y[roles.victims]}
    assert held == set(VICTIMS_AS_PUBLISHED)


@pytest.mark.parametrize("name", ["omniglot-post", "omniglot-post-28", "omniglot-dp"])
def test_the_studies_of_the_post_are_whole(name: str) -> None:
    study, _ = load_study(name)
    assert {attack.name for attack in study.attacks} == {"post-decoder", "inversion"}
    assert ("victims" in study.data.overlap) == (name != "omniglot-dp")
    private = {variant.name: study.plan_of(variant).privacy for variant in study.variants}
    noise = [privacy.noise_multiplier for privacy in private.values() if privacy]
    assert noise == ([0.3, 0.5, 0.7] if name == "omniglot-dp" else [])


def test_private_training_under_batchnorm_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    few = data.load("digits").take(np.arange(200, dtype=np.int64))
    wide = np.pad(few.x, [(0, 0), (0, 0), (38, 39), (38, 39)])
    monkeypatch.setattr("wireleak.lab.run.division.load", lambda *_, **__: replace(few, x=wide))
    declared = {
        "name": "private",
        "description": "",
        "data": {"name": "digits", "clients": 1, "train": 60, "evaluation": 40, "attacker": 40, "victims": 40},
        "model": {"name": "post105"},
        "system": {"mode": "federated", "privacy": {"noise_multiplier": 1.0}},
        "variants": [{"name": "dp", "cut": 4}],
    }
    with pytest.raises(StudyError, match=r"^variants\.dp\.privacy: post105: layer 0\.2 is BatchNorm2d, .*GroupNorm"):
        make_plan(Study.model_validate(declared))
    make_plan(Study.model_validate(declared | {"model": {"name": "post105-gn"}}))
