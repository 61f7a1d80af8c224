"""`wireleak defend`: what it tries, what it says, and mistakes as one line. The whole command runs in tests/studies."""

from __future__ import annotations

import json
import math
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from wireleak.cli import app
from wireleak.lab.audit import defend as defending
from wireleak.lab.audit.defend import ActivationScale, outcomes, percent, settings, study_toml, verdict
from wireleak.lab.audit.subject import Request, Subject, examine
from wireleak.lab.data.roles import Turn
from wireleak.lab.report.boards import Board, SeedMean
from wireleak.lab.report.defences import Comparison, Point, Spread
from wireleak.lab.run.division import DivisionSeed, divide
from wireleak.lab.study.schema import Study, StudyError

MODEL = "examples/audit_model.py:make"


def point(name: Any, lost: Any, gained: Any, leak: Any = (0.6, 0.55, 0.65), defence: Any = "x") -> Point:
    rest: dict[str, Any] = {"attacker": "a", "own": "", "device_seconds": 0.0, "bytes": 0.0, "guarantee": ""}
    spreads: dict[str, Any] = {
        "accuracy": Spread(0.9, 0.89, 0.91),
        "leak": Spread(*leak),
        "lost": Spread(*lost),
        "gained": Spread(*gained),
    }
    return Point(variant=name, title=name, defence=defence, strength=math.nan, helps=gained[1] > 0, **spreads, **rest)


def compared(*points: Any, seeds: Any = 3) -> Comparison:
    none = point("none", (0, 0, 0), (0, 0, 0), (0.9, 0.88, 0.92), "none")
    return Comparison("slant", "AUC", 0.5, ("a", "b"), seeds, (none, *points))


def test_the_verdict_names_the_greatest_reduction_within_the_budget() -> None:
    cheap = point("cheap", (0.01, 0.0, 0.02), (0.1, 0.05, 0.15))
    better = point("better", (0.015, 0.01, 0.02), (0.2, 0.1, 0.3))
    dear = point("dear", (0.3, 0.2, 0.4), (0.4, 0.3, 0.5))
    unsure = point("unsure", (0.0, 0.0, 0.0), (0.3, -0.1, 0.7))
    said = verdict(compared(cheap, better, dear, unsure), 0.02)
    assert said.startswith("slant: better lowers the strongest attacker's AUC by 0.200 [0.100, 0.300] to 0.600")
    assert "the remaining leak may still be too high" in said
    assert said.endswith("It is the best of 4 settings on these victims, so part of the reduction may be luck.")
    assert "the pick" not in verdict(compared(better), 0.02) and "is not shown" not in said
    loose = point("loose", (0.01, -0.5, 0.5), (0.2, 0.1, 0.3))
    assert "Its cost may exceed 2 points of accuracy" in verdict(compared(loose), 0.02)
    assert verdict(compared(cheap, dear), 0.5).startswith("slant: dear lowers")


def test_what_is_not_shown_is_not_said() -> None:
    unsure = point("unsure", (0.0, 0.0, 0.0), (0.3, -0.1, 0.7))
    assert "no defence is shown to lower the leak" in verdict(compared(unsure), 0.02)
    lone = point("lone", (0.0, math.nan, math.nan), (0.3, math.nan, math.nan))
    assert "one seed gives no interval: use --seeds 3" in verdict(compared(lone, seeds=1), 0.02)


def test_a_defence_is_judged_by_the_strongest_reader_of_its_wire() -> None:
    """An attacker that found nothing hides neither another attacker nor the linear reader of the same wire."""

    def scored(attack: str, measure: str, value: float, name: str, role: Any) -> SeedMean:
        chance = 0.01 if measure == "reid" else None
        ends: dict[str, Any] = {"low": value - 0.005, "high": value + 0.005}
        rest: dict[str, Any] = {"n": 100, "seeds": 1, "by_seed": ((0, value),), "vantage": "gateway", "target": "input"}
        where: dict[str, Any] = {"study": "s", "variant": "noise", "link": "plaintext", "attack": attack}
        return SeedMean(measure=measure, value=value, role=role, name=name, chance=chance, **ends, **rest, **where)

    def board(attack: str, mse: float, ridge: float) -> Board:
        scores = [scored(attack, "mse", mse, "", "attack"), scored(attack, "reid", 0.01, "", "attack")]
        scores += [scored(attack, "mse", 0.1, "mean", "baseline"), scored(attack, "reid", 0.01, "mean", "baseline")]
        scores += [scored(attack, "mse", 0.1, "ridge", "reader"), scored(attack, "reid", ridge, "ridge", "reader")]
        return Board("noise", "plaintext", "gateway", attack, "input", tuple(scores))

    blind, linear = board("decoder", 0.1, 0.01), board("decoder", 0.1, 0.22)
    assert outcomes([blind])["noise", "input"].silent
    assert outcomes([linear])["noise", "input"].outcome == "part"
    assert outcomes([blind, board("decoder-large", 0.02, 0.01)])["noise", "input"].outcome == "part"


@pytest.mark.parametrize(("text", "share"), [("2%", 0.02), ("2 %", 0.02), ("0.02", 0.02), ("0", 0.0)])
def test_budgets(text: str, share: float) -> None:
    assert percent(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "lots", "-1%", "100%", "2"])
def test_no_budgets(text: str) -> None:
    with pytest.raises(StudyError, match=r"^--budget: "):
        percent(text)


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> Subject:
    from pathlib import Path

    monkeypatch.chdir(Path(__file__).parents[4])
    return examine(Request(MODEL, "digits", attributes=("slant", "thickness"), seeds=2))


@pytest.mark.parametrize("protect", ["slant", None])
def test_the_study_it_writes_is_one_and_its_transforms_exist(subject: Subject, protect: str | None) -> None:
    from client.__main__ import app as client

    study = Study.model_validate(tomllib.loads(study_toml(subject, "defend-make", 4, protect)))
    assert study.variants[0].defence == "none" and study.seeds == (0, 1)
    assert len({variant.name for variant in study.variants}) == len(study.variants) > 8
    assert sum(attack.name == "ladder" for attack in study.attacks) == 4
    steps = [step.model_dump() for variant in study.variants for step in variant.transforms]
    told = json.loads(CliRunner().invoke(client, ["transforms", json.dumps(steps)]).stdout)
    assert {name for step in told for name in step["private"]} == ({"slant"} if protect else set())


@pytest.mark.parametrize("options", [{}, {"quick": True}, {"epochs": 2}, {"frozen_encoder": True, "epochs": 1}])
def test_its_data_can_be_dealt_however_the_network_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Any
) -> None:
    # Two clients were to share the one example of a network that comes trained.
    monkeypatch.chdir(Path(__file__).parents[4])
    weights = tmp_path / "weights.pt"
    torch.save(runpy.run_path("examples/audit_model.py")["make"](2, (1, 28, 28)).state_dict(), weights)
    subject = examine(Request(MODEL, "digits", attributes=("slant",), weights=weights, **options))
    study = Study.model_validate(tomllib.loads(study_toml(subject, "defend-make", 4, None)))
    dealt = divide(study, subject.dataset, study.variants[0], DivisionSeed(0, Turn(0, 0)))
    assert all(len(shard.train) for shard in dealt.shards) and len(dealt.roles.victims)


def test_noise_is_measured_by_the_activations_own_scale() -> None:
    tried = {title: step["options"] for title, step in settings(ActivationScale(norm=8.0, floats=16), None, quick=True)}
    assert tried["noise, half of the signal"] == {"clip": 8.0, "sigma": 1.0}
    assert tried["noise, twice the signal"] == {"clip": 8.0, "sigma": 4.0}


@pytest.mark.usefixtures("no_progress")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--protect", "height"], "--protect: no attribute called 'height'; choose one of"),
        (["--budget", "much"], "--budget: 'much' is not a share"),
        (["--cut", "99"], "cannot be cut at 99"),
        (["--attributes", "height"], "height"),
    ],
)
def test_mistakes_are_one_line(subject: Subject, tmp_path: Path, arguments: Any, says: str) -> None:
    done = CliRunner().invoke(app, ["defend", MODEL, "--data", "digits", "--out", str(tmp_path), *arguments])
    assert done.exit_code == 2 and says in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_run_that_goes_on_keeps_the_study_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches follow from a measured speed, which differs from one start to the next."""

    def stopped(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(Path(__file__).parents[4])
    monkeypatch.setattr(defending, "run_study", stopped)
    request = Request(MODEL, "digits", attributes=("slant",), cuts=(4,), quick=True)

    def defend(resume: Path | None) -> None:
        with pytest.raises(KeyboardInterrupt, match=r"^go on with the same options and --resume /"):
            defending.defend(request, None, 0.02, tmp_path, 1, Console(quiet=True), resume)

    defend(None)
    (run,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    began = (run / "study.toml").read_text()
    assert "batch = 32" in began
    monkeypatch.setattr(defending, "_BATCH", 16)
    defend(run)
    assert (run / "study.toml").read_text() == began == (tmp_path / "defend-make.toml").read_text()
