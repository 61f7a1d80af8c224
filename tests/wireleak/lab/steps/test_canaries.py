"""Planted numbers: who draws them, who is told, how they are scored, and what the report says of them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from wireleak.common.measures.statistics.secret_sharer import ALPHABET, WINDOW, exposures
from wireleak.common.models.networks import build
from wireleak.common.references import LIKELIEST, UNPLANTED
from wireleak.common.targets.canary import CHANCE, Canary
from wireleak.common.targets.target import OWN
from wireleak.lab.report.boards import boards
from wireleak.lab.report.figures import exposure_drawing
from wireleak.lab.report.findings import finding
from wireleak.lab.run import planting, truth
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.results import Row
from wireleak.lab.run.seeds import Seeds
from wireleak.lab.steps.plan import check_participants
from wireleak.lab.study.library import load_study
from wireleak.lab.study.schema import StudyError

TIMES = (1, 1, 8)
TINY = """
name = "tiny"
description = "numbers in one client's text"
[data]
name = "characters"
clients = 2
train = 1200
evaluation = 100
attacker = 10
victims = 10
[model]
name = "char-lstm"
[system]
mode = "federated"
rounds = 2
epochs = 1
learning_rate = 0.005
[serve]
devices = false
[threat]
vantage = "release"
sees = ["global-model", "model-update"]
knows = ["architecture"]
[[variants]]
name = "two"
participant = { name = "canary", options = { times = [1, 1, 8], digits = 3 } }
[[attacks]]
name = "secret-sharer"
targets = ["canary"]
[[attacks]]
name = "secret-sharer"
label = "link"
vantage = "link"
targets = ["canary"]
"""


def cell_of(tmp_path: Path, seed: Any = 0, **participant: Any) -> Cell:
    study, _ = load_study("canary")
    chosen = {"name": "canary", "options": {"times": TIMES, "digits": 3}} | participant
    variant = study.variants[0].model_validate(study.variants[0].model_dump() | {"participant": chosen})
    return Cell(study, variant, seed, tmp_path, (WINDOW,), len(ALPHABET), Seeds(bytes(range(32))))


def exposure_scores(cell: Any, found: Any) -> Any:
    return Canary().score({OWN: found}, planting.planted(cell), cell.seed)


def drawn(cell: Any, tmp_path: Path) -> Any:
    planting.write(cell, tmp_path / "secret.npz")
    with np.load(tmp_path / "secret.npz") as held:
        assert held.files == ["number"]
        return held["number"]


def test_numbers_are_drawn_by_the_cell_s_seed_and_differ(tmp_path: Path) -> None:
    numbers = drawn(cell_of(tmp_path), tmp_path)
    assert len(set(numbers.tolist())) == 3 and ((numbers >= 0) & (numbers < 1000)).all()
    assert np.array_equal(numbers, drawn(cell_of(tmp_path), tmp_path))
    assert not np.array_equal(numbers, drawn(cell_of(tmp_path, seed=1), tmp_path))


def test_only_the_planted_client_s_updates_are_attacked(tmp_path: Path) -> None:
    cell = cell_of(tmp_path)
    assert {sender for sender, _ in truth.units(cell, "link", Canary.name)} == {0}
    assert cell.secret.parent == cell.participant


def test_scores_are_ranks_and_those_never_planted_have_a_bit_and_a_half(tmp_path: Path) -> None:
    cell = cell_of(tmp_path)
    numbers = drawn(cell, tmp_path)
    found = np.random.default_rng(0).normal(40, 4, (1000, 1)).astype(np.float32)
    found[numbers[2]] = 1.0
    scored = {(one.target, one.guess, one.score.measure): one.score for one in exposure_scores(cell, found)}
    assert {target for target, _, _ in scored} == {"canary-1", "canary-8"}
    assert scored["canary-8", "", "exposure"].value == pytest.approx(math.log2(1000))
    assert scored["canary-8", LIKELIEST, "exposure"].value == pytest.approx(math.log2(1000))
    assert scored["canary-8", "", "exposure-extrapolated"].value > 15
    ranks = [int((found <= found[number]).sum()) for number in numbers[:2]]
    assert scored["canary-1", "", "exposure"].value == pytest.approx(math.log2(1000) - np.log2(ranks).mean())
    for measure in ("exposure", "exposure-extrapolated"):
        never = scored["canary-1", UNPLANTED, measure]
        assert never.value == pytest.approx(1.44, abs=0.4) and never.low < 1.44 < never.high
        assert never.chance == pytest.approx(1.4427, abs=1e-4)
    assert scored["canary-1", "", "exposure"].n == 2
    # One number has no interval, and must not look certain.
    assert math.isnan(scored["canary-8", "", "exposure"].low)


def test_where_nothing_was_seen_nothing_is_exposed(tmp_path: Path) -> None:
    scores = exposure_scores(cell_of(tmp_path), np.zeros((1000, 1), np.float32))
    assert {one.score.value for one in scores if one.guess != LIKELIEST} == {0.0}


def test_an_attack_where_nobody_plants_is_refused(tmp_path: Path) -> None:
    study, _ = load_study("canary")
    plain = study.variants[0].model_copy(update={"participant": None})
    with pytest.raises(StudyError, match=r"secret-sharer.variants: no client of one plants numbers; set its"):
        check_participants(study.model_copy(update={"variants": (plain,)}))
    with pytest.raises(StudyError, match="no client plants numbers in one-seed0; set participant"):
        planting.planting(Cell(study, plain, 0, tmp_path, (WINDOW,), len(ALPHABET), Seeds(bytes(range(32)))))
    check_participants(study)


ROLES = {"": "attack", UNPLANTED: "baseline", LIKELIEST: "bound"}


def row(target: Any, value: Any, half: Any, name: Any = "", seed: Any = 0) -> Row:
    return Row(
        study="canary", variant="four", seed=seed, link="plaintext", vantage="release", attack="secret-sharer",
        target=target, measure="exposure", value=value, low=value - half, high=value + half, n=2,
        role=ROLES[name], name=name, chance=math.nan if name == LIKELIEST else CHANCE,
    )  # fmt: skip


@pytest.fixture
def board_rows() -> Any:
    rows = []
    for target, value in (("canary-1", 1.6), ("canary-16", 12.1)):
        rows += [row(target, value, 1.0), row(target, 1.5, 0.2, UNPLANTED)]
        rows += [row(target, 13.2877, math.nan, LIKELIEST)]
    return rows


def test_the_finding_says_how_many_bits_of_how_many(board_rows: Any) -> None:
    once, often = (finding(board, "four clients") for board in boards(board_rows))
    assert (once.outcome, often.outcome) == ("open", "leak")
    assert once.text.startswith(
        "Is not shown to expose a number planted once: Exposure 1.6 [0.6, 2.6], not clearly better than"
    )
    assert often.text == (
        "Exposes numbers planted 16 times: Exposure 12.1 [11.1, 13.1] against 1.5 [1.3, 1.7] for numbers never "
        "planted, of 13.3 bits at most."
    )
    assert "likeliest of all, Exposure 13.3: holds" in often.detail[0]


def test_one_number_with_one_seed_is_no_claim_either_way(board_rows: Any) -> None:
    rows = [one if one.name else one.model_copy(update={"low": math.nan, "high": math.nan}) for one in board_rows]
    _, often = (finding(board, "four clients") for board in boards(rows))
    assert often.outcome == "open" and "no better" not in often.text
    assert often.text.startswith("Gives no verdict on numbers planted 16 times: Exposure 12.1, of 13.3 bits at most;")


def test_the_chart_has_a_mark_for_each_count_and_none_without_canaries(board_rows: Any) -> None:
    drawing = exposure_drawing(boards(board_rows), {"four": "four <clients>"})
    assert drawing is not None
    chart = drawing.inline()
    assert chart.count("</title>") == 2 and "four &lt;clients&gt;, by secret-sharer" in chart
    assert "planted 1, 16 times" in chart
    others = [one.model_copy(update={"target": "slant"}) for one in board_rows]
    assert exposure_drawing(boards(others), {"four": "four"}) is None


@pytest.mark.study
def test_exposures_on_the_wire_are_those_of_the_server_s_own_model(tmp_path: Path) -> None:
    """Oracle: the server's checkpoint, asked in process about the numbers that were sealed."""
    (tmp_path / "tiny.toml").write_text(TINY)
    command = [sys.executable, "-m", "wireleak", "run", "tiny.toml", "--out", "runs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    run = tmp_path / "runs" / "tiny-latest"
    rows = [Row.model_validate(one) for one in json.loads((run / "results.json").read_text())["rows"]]
    cell = run / "two-seed0"
    with np.load(cell / "adversary" / "participant" / "secret.npz") as held:
        planted = {f"{number:03d}": times for number, times in zip(held["number"].tolist(), TIMES, strict=True)}
    blocks = build("char-lstm", (WINDOW,), len(ALPHABET), 0).blocks
    state: dict[str, torch.Tensor] = {}
    for stage in ("encoder", "head"):
        state |= load_file(cell / "server" / "checkpoints" / f"{stage}-2.safetensors")
    blocks.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
    own = exposures(blocks, planted, np.random.default_rng(0))
    for times in (1, 8):
        (seen,) = [
            one.value
            for one in rows
            if (one.attack, one.target, one.measure, one.name) == ("secret-sharer", f"canary-{times}", "exposure", "")
        ]
        assert seen == pytest.approx(np.mean([one.exposure for one in own if one.times == times]), abs=0.1)
    assert {one.vantage for one in rows} == {"release", "link"}
    page = (run / "report.html").read_text()
    assert "Exposure by number of insertions" in page and "planted numbers: 2" in page
    assert "Attacker's norm ratio" not in page
