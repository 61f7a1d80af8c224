"""An audit's canaries: wrong labels, a fair coin for each, and the records about which attacks on membership ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare

from wireleak.common.files import write_arrays
from wireleak.common.targets.member import PLANTED, Member
from wireleak.lab.data.mislabelled import deal
from wireleak.lab.run import truth
from wireleak.lab.run.attack_folder import AttackFolder
from wireleak.lab.run.job import AttackJob
from wireleak.lab.steps import ranking
from wireleak.lab.steps.deal import registered, write_cell
from wireleak.lab.steps.plan import make_plan
from wireleak.lab.study.library import load_study
from wireleak.lab.study.tables import Data


def cell_of(folder: Path, **data: Any) -> Any:
    study, _ = load_study("membership")
    study = study.model_copy(update={"data": study.data.model_copy(update=data), "variants": study.variants[:1]})
    plan = make_plan(study, seeds=1)
    (cell,) = plan.cells(folder)
    return plan, cell


SMALL = {"train": 240, "victims": 100, "attacker": 20, "evaluation": 20}


def test_labels_are_wrong_and_a_fair_coin_decides() -> None:
    y = np.arange(6000) % 7
    examples = {"x": np.arange(6000.0), "y": y.copy(), "attribute:slant": np.arange(6000)}
    trained, left_out = deal(examples, 3000, np.random.default_rng(0))
    assert np.array_equal(examples["y"], y)
    both = {name: np.concatenate([trained[name], left_out[name]]) for name in trained}
    assert sorted(both["x"]) == list(range(6000)) and np.array_equal(both["attribute:slant"], both["x"])
    true, canary = y[both["x"].astype(int)], both["canary"]
    assert canary.sum() == 3000 and left_out["canary"].all()
    assert np.array_equal(both["y"] != true, canary)
    assert chisquare(np.bincount((both["y"] - true)[canary] % 7)[1:]).pvalue > 1e-3
    assert binomtest(len(left_out["y"]), 3000).pvalue > 1e-3
    again = deal(examples, 3000, np.random.default_rng(0))
    assert np.array_equal(again.left_out["x"], left_out["x"])
    # Which are canaries does not depend on the place of an example.
    assert 2500 < np.median(both["x"][canary]) < 3500


def test_a_client_never_sees_what_was_left_out_and_attacks_are_asked_about_both(tmp_path: Path) -> None:
    plan, cell = cell_of(tmp_path, **SMALL | {"clients": 1, "canaries": 60})
    write_cell(plan, cell)
    with np.load(cell.train("client-0")) as held:
        own, labels = held["x"], held["y"]
        assert "canary" not in held.files
    with np.load(cell.records) as stored:
        records = dict(stored)
    member = truth.CellTruth(cell, "link", Member(), True).file("records", "member")
    assert set(records) == {"x", "y"} and len(member) == len(records["x"]) == len(records["y"])
    assert (member >= PLANTED).sum() == 60 and registered(cell)[0]["train"] == len(own) == 240 - (member == 2).sum()
    place = {row.tobytes(): label for row, label in zip(own, labels, strict=True)}
    for row, label, value in zip(records["x"], records["y"], member, strict=True):
        assert (row.tobytes() in place) == (value % 2 == 1)
        assert place.get(row.tobytes(), label) == label
    assert (member == 1).sum() == (member == 0).sum() == 100
    # An order that says nothing of who is a canary.
    assert 0.15 < np.abs(np.diff(member >= PLANTED)).mean() < 0.6


def test_clients_share_the_canaries_and_each_is_asked_about_its_own(tmp_path: Path) -> None:
    data = {"clients": 3, "canaries": 61, "membership": "client", "nonmembers": 80}
    plan, cell = cell_of(tmp_path, **SMALL | data)
    write_cell(plan, cell)
    with np.load(cell.records) as stored:
        records = dict(stored)
    member = truth.CellTruth(cell, "link", Member(), True).file("records", "member")
    assert np.bincount(records["client"][member >= PLANTED]).tolist() == [0, 20, 20]
    for number in (1, 2):
        with np.load(cell.train(f"client-{number}")) as held:
            own = {row.tobytes() for row in held["x"]}
        asked = (records["client"] == number) & (member % 2 == 1)
        assert {row.tobytes() for row in records["x"][asked]} == own


def test_curves_and_worst_protected_records_are_of_ordinary_records(tmp_path: Path) -> None:
    plan, cell = cell_of(tmp_path, **SMALL | {"clients": 1, "canaries": 60})
    write_cell(plan, cell)
    job = AttackJob(cell, cell.study.attacks[0], "member")
    member = job.sought.ground_truth(job.truth(federated=True))
    score = np.random.default_rng(0).random(len(member)).astype(np.float32)
    job.out.mkdir(parents=True)
    write_arrays(job.guesses, {job.use.name: np.stack([1 - score, score], 1)})
    AttackFolder(job.out).meta.write_text(json.dumps({"prior": None, "training": {}}))
    found = ranking._ranking(job)
    assert found is not None
    ordinary = member < PLANTED
    assert np.array_equal(found.value, member[ordinary]) and np.allclose(found.score, score[ordinary])
    assert len(found.names) == len(found.units) == ordinary.sum() == 200
    with np.load(cell.records) as stored:
        assert found.inputs is not None and np.array_equal(found.inputs, stored["x"][ordinary])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"canaries": 121}, "canaries: 121 are more than half of train, 240; the task could not be learnt"),
        ({"canaries": 9, "stream": {}}, "canaries: a stream trains on new examples in every round; remove data.stream"),
    ],
)
def test_a_mistake_is_named_with_its_fix(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Data.model_validate(load_study("membership")[0].data.model_dump() | SMALL | changes)
