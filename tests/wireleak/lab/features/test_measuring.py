"""The features of a cell: a small network's, computed by hand, and the rows, notes and kept record they give."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, silhouette_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from wireleak.common.models import build, save_weights
from wireleak.lab.data import Dataset
from wireleak.lab.data.dataset import Attribute
from wireleak.lab.data.partition import Shard
from wireleak.lab.data.roles import Roles
from wireleak.lab.features import measuring
from wireleak.lab.features.measuring import measure_features, unseen
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.division import Division
from wireleak.lab.run.seeds import Seeds
from wireleak.lab.study.schema import Study

ROWS = np.arange(400)
TRAINED, EVALUATED, HELD, VICTIMS = ROWS[:100], ROWS[100:300], ROWS[300:330], ROWS[330:]
STUDY: dict[str, Any] = {
    "name": "steered",
    "description": "made",
    "seeds": [0, 1],
    "data": {"name": "digits", "clients": 2, "train": 100, "evaluation": 200, "attacker": 30, "victims": 70},
    "model": {"name": f"{__name__}:small"},
    "system": {"mode": "federated", "rounds": 3, "batch": 8},
    "serve": {"devices": False},
    "threat": {"vantage": "malicious-participant", "sees": ["model-update", "global-model"], "knows": ["surrogate"]},
    "variants": [
        {"name": "watched", "participant": {"name": "multi-task", "options": {"attribute": "kind", "alpha": 0}}},
        {"name": "steered", "participant": {"name": "multi-task", "options": {"attribute": "kind"}}},
        {"name": "honest"},
        {"name": "other", "participant": {"name": "exploring"}},
    ],
    "attacks": [{"name": "property", "targets": ["kind"]}],
}


def small(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """A network with batch normalisation and dropout, so that the training mode would show."""
    first = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), 16), nn.BatchNorm1d(16), nn.ReLU())
    return nn.Sequential(first, nn.Dropout(0.5), nn.Linear(16, classes))


@pytest.fixture
def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    kind, y = rng.integers(0, 2, 400), rng.integers(0, 3, 400)
    x = rng.normal(size=(400, 1, 4, 4)).astype(np.float32)
    x[:, 0, 0, 0] += 2 * kind
    x[:, 0, 1, :3] += 2 * np.eye(3, dtype=np.float32)[y]
    attribute = Attribute("kind", kind, ("thin", "thick"), measured=True)
    return Dataset("made", x, y, "task", ("a", "b", "c"), {"kind": attribute}, {"person": ROWS // 2}, "made")


@pytest.fixture
def cells(tmp_path: Path, dataset: Dataset) -> dict[str, Cell]:
    study = Study.model_validate(STUDY)
    seeds = Seeds.draw()
    found = [
        Cell(study, variant, seed, tmp_path, dataset.input_shape, 3, seeds)
        for variant in study.variants
        for seed in study.seeds_of(variant)
    ]
    for number, cell in enumerate(found):
        weights(cell, number)
    return {cell.name: cell for cell in found}


def weights(cell: Cell, number: int, first: float | None = None) -> Any:
    """Write a checkpoint of random weights, and return the network as its author wrote it."""
    network = build(STUDY["model"]["name"], cell.input_shape, 3, number)
    whole: Any = network.whole
    whole[0][2].running_mean.fill_(0.3)
    if first is not None:
        whole[0][1].weight.data.fill_(first)
    for part, half in zip(("encoder", "head"), network.split(cell.variant.cut), strict=True):
        save_weights(half, cell.checkpoint(part, 3))
    return whole.eval()


def division(**changes: Any) -> Division:
    shards = [Shard(TRAINED[:50], EVALUATED[:90]), Shard(TRAINED[50:], EVALUATED[90:])]
    roles = Roles(
        **{"clients": TRAINED, "evaluation": EVALUATED, "attacker": HELD, "victims": VICTIMS} | changes, duplicates=0
    )
    return Division(roles, shards, [], {})


def divisions(cells: dict[str, Cell]) -> dict[tuple[str, int], Division]:
    return {(cell.variant.name, cell.seed): division() for cell in cells.values()}


def test_the_figures_are_those_of_the_last_layers_inputs_in_evaluation_mode(
    cells: dict[str, Cell], dataset: Dataset
) -> None:
    found = measure_features(list(cells.values()), dataset, divisions(cells))
    rows = np.r_[EVALUATED, VICTIMS]
    kind, y = dataset.attributes["kind"].values[rows], dataset.y[rows]
    with torch.no_grad():
        features = weights(cells["steered-seed1"], 3)[0](torch.from_numpy(dataset.x[rows])).numpy()
    fitted, scored = next(StratifiedKFold(2, shuffle=True, random_state=0).split(kind, kind))
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features[fitted], kind[fitted])
    scaled = StandardScaler().fit_transform(features)
    expected = {
        "feature-probe": roc_auc_score(kind[scored], probe.decision_function(features[scored])),
        "feature-silhouette": silhouette_score(scaled, kind),
        "feature-silhouette-task": silhouette_score(scaled, y),
    }
    own = {task.measure: task for task in found.tasks if (task.variant, task.seed) == ("steered", 1)}
    assert {name: task.value for name, task in own.items()} == pytest.approx(expected, abs=1e-4)
    assert [own[name].n for name in expected] == [len(scored), 270, 270]
    assert own["feature-probe"].majority == 0.5 and own["feature-probe"].rounds == 3
    assert not found.notes


def test_only_participants_that_name_an_attribute_are_measured_and_first_seeds_mapped(
    cells: dict[str, Cell], dataset: Dataset
) -> None:
    found = measure_features(list(cells.values()), dataset, divisions(cells))
    assert {(task.variant, task.seed) for task in found.tasks} == {
        (name, seed) for name in ("watched", "steered") for seed in (0, 1)
    }
    assert [(one.variant, one.seed, one.honest) for one in found.maps] == [("watched", 0, True), ("steered", 0, False)]
    one = found.maps[0]
    assert (one.property_classes, one.task_classes) == (["thin", "thick"], ["a", "b", "c"])
    rows = np.r_[EVALUATED, VICTIMS]
    assert one.values == dataset.attributes["kind"].values[rows].tolist() and one.labels == dataset.y[rows].tolist()
    assert len(one.x) == len(one.y) == 270


def test_examples_that_somebody_knows_are_left_out() -> None:
    known = np.r_[VICTIMS, TRAINED[:5], HELD[:5], EVALUATED[:3]]
    assert unseen(division(victims=known)).tolist() == sorted([*EVALUATED, *VICTIMS])


def test_people_stay_on_one_side_where_the_study_keeps_them_apart(
    cells: dict[str, Cell], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def probed(_: Any, values: Any, groups: Any) -> tuple[float, int]:
        seen.append(groups)
        return 0.5, len(values)

    monkeypatch.setattr(measuring, "probe_auc", probed)
    plain = cells["steered-seed0"]
    apart = plain.study.model_copy(update={"data": plain.study.data.model_copy(update={"disjoint_by": "person"})})
    for study in (plain.study, apart):
        cell = Cell(study, plain.variant, 0, plain.run, plain.input_shape, 3, plain.seeds)
        measure_features([cell], dataset, divisions(cells))
    assert seen[0] is None and seen[1].tolist() == (np.r_[EVALUATED, VICTIMS] // 2).tolist()


def test_a_resumed_run_measures_again_only_what_changed(
    cells: dict[str, Cell], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    measure = measuring._measure

    def measured(cell: Cell, *rest: Any) -> Any:
        calls.append(cell.name)
        return measure(cell, *rest)

    monkeypatch.setattr(measuring, "_measure", measured)
    first, again = (measure_features(list(cells.values()), dataset, divisions(cells)) for _ in range(2))
    assert first.model_dump_json() == again.model_dump_json() and len(calls) == 4
    weights(cells["watched-seed1"], 17)
    changed = measure_features(list(cells.values()), dataset, divisions(cells))
    assert calls[4:] == ["watched-seed1"] and changed.model_dump_json() != first.model_dump_json()
    dataset.attributes["kind"].values[:] = dataset.attributes["kind"].values[::-1].copy()
    measure_features(list(cells.values()), dataset, divisions(cells))
    assert len(calls) == 9


def test_a_missing_checkpoint_or_a_diverged_network_is_a_note(cells: dict[str, Cell], dataset: Dataset) -> None:
    watched, steered = cells["watched-seed0"], cells["steered-seed0"]
    watched.checkpoint("head", 3).unlink()
    weights(steered, 1, first=math.nan)
    found = measure_features([watched, steered], dataset, divisions(cells))
    assert not found.tasks and not found.maps
    assert "head-3.safetensors is missing" in found.notes[0] and "not finite" in found.notes[1]
