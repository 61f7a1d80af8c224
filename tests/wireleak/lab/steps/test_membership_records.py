"""The records of which attackers on membership are asked, and what stands in the sealed files of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wireleak.common.targets.member import Member
from wireleak.lab.data import DataError, load
from wireleak.lab.run import truth
from wireleak.lab.steps.capture import _Security, _write_client
from wireleak.lab.steps.deal import write_cell
from wireleak.lab.steps.plan import make_plan
from wireleak.lab.study.library import load_study
from wireleak.lab.study.tables import Data, Participant


def cell_of(name: Any, folder: Any, **data: Any) -> Any:
    study, _ = load_study(name)
    study = study.model_copy(update={"data": study.data.model_copy(update=data), "variants": study.variants[:1]})
    plan = make_plan(study, seeds=1)
    (cell,) = plan.cells(folder)
    write_cell(plan, cell)
    with np.load(cell.records) as records:
        arrays = dict(records)
    return cell, arrays, truth.CellTruth(cell, "link", Member(), True).file("records", "member")


def rows(x: Any) -> Any:
    return {row.tobytes() for row in x}


def test_members_are_the_other_clients_examples_and_strangers_nobodys(tmp_path: Path) -> None:
    cell, records, member = cell_of("membership", tmp_path, train=90, victims=80, attacker=20, evaluation=20)
    trained = []
    for client in cell.clients:
        with np.load(cell.folder / client / "train.npz") as held:
            trained.append(rows(held["x"]))
    inside, outside = rows(records["x"][member == 1]), rows(records["x"][member == 0])
    assert set(records) == {"x", "y"} and member.mean() == 0.5
    assert inside <= set().union(*trained[1:]) and not inside & trained[0]
    assert not outside & set().union(*trained)
    # An order that says nothing: members do not stand together.
    assert 0.3 < np.abs(np.diff(member)).mean() < 0.7
    assert Member().senders(4, participant=False) == [1, 2, 3]


def test_a_study_says_how_many_nonmembers_there_are_and_that_clients_are_named(tmp_path: Path) -> None:
    data = {"train": 80, "victims": 300, "nonmembers": 250, "attacker": 20, "evaluation": 20, "membership": "client"}
    cell, records, member = cell_of("membership", tmp_path, **data)
    assert np.bincount(member).tolist() == [250, 60]
    for number, client in enumerate(cell.clients):
        with np.load(cell.folder / client / "train.npz") as held:
            own = rows(held["x"])
        asked = records["client"] == number
        assert rows(records["x"][asked & (member == 1)]) == (own if number else set())
        # A client says nothing: strangers are asked about each as often as members.
        assert abs((asked & (member == 0)).sum() - (250 / 3 if number else 0)) < 30
    with pytest.raises(
        ValueError, match="nonmembers: 400 are drawn from the victims, and these are 300; raise victims"
    ):
        Data.model_validate(load_study("membership")[0].data.model_dump() | data | {"nonmembers": 400})


@pytest.mark.parametrize("target", ["member", "digit"])
def test_a_malicious_participant_gets_the_records_without_the_answers(tmp_path: Path, target: str) -> None:
    """Where no attack guesses membership, there are no records to get."""
    study, _ = load_study("membership")
    data = study.data.model_copy(update={"train": 90, "victims": 80, "attacker": 20, "evaluation": 20})
    ascent = Participant(name="gradient-ascent", options={"strength": 1.0})
    variant = study.variants[0].model_copy(update={"engine": "in-process", "participant": ascent})
    attack = study.attacks[0].model_copy(update={"targets": (target,), "vantage": "participant"})
    plan = make_plan(study.model_copy(update={"data": data, "variants": (variant,), "attacks": (attack,)}), seeds=1)
    (cell,) = plan.cells(tmp_path)
    write_cell(plan, cell)
    jail = _write_client(cell, "client-0", "", _Security(cell))
    config = json.loads((cell.participant / "config.json").read_text())
    if target != "member":
        assert config["records"] is None
        return
    with np.load(config["records"]) as records:
        assert set(records.files) == {"x", "y"}
    assert Path(config["records"]) in jail.read and not [path for path in jail.read if "sealed" in path.parts]


def test_where_parties_share_no_person_the_records_name_theirs(tmp_path: Path) -> None:
    try:
        load("motionsense")
    except DataError as error:
        pytest.skip(f"motionsense: {error}")
    _, records, member = cell_of("membership-people", tmp_path, clients=3, train=1700, victims=500, attacker=300)
    people = records["group"]
    assert not set(people[member == 1]) & set(people[member == 0])
    assert len(set(people[member == 1])) > 1
