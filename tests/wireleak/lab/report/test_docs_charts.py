"""Charts of the documents' tables, which are drawn from the parts of a report."""

import importlib
from pathlib import Path

import pytest

from wireleak.lab.report.training_page import TrainingPage, Windows
from wireleak.lab.run.ranked import Curve, Rankings
from wireleak.lab.run.results import Results


def test_each_attack_on_a_target_has_a_chart_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[4] / "docs"))
    by_round = importlib.import_module("make_results").by_round
    attacks = {"property": ["thick"], "early": ["slant"], "late": ["slant"]}
    windows = [Windows(attack, target, "auc", {}) for attack, targets in attacks.items() for target in targets]
    names = [name for name, _ in by_round(TrainingPage(windows=windows), {})]
    assert names == ["thick-by-round", "early-slant-by-round", "late-slant-by-round"]


@pytest.mark.parametrize(("least", "charts"), [(1e-3, ["roc-wide-member-log"]), (2e-3, [])])
def test_low_rates_are_drawn_where_they_can_be_shown(
    monkeypatch: pytest.MonkeyPatch, least: float, charts: list[str]
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[4] / "docs"))
    low_rates = importlib.import_module("make_results").low_rates
    where = {"variant": "wide", "attack": "lira", "target": "member", "seed": 0}
    curve = Curve.model_validate({**where, "fpr": [0, 1], "tpr": [0, 1], "mean_tpr": [0, 1], "least": least})
    results = Results(study="s", created="", command="", rankings=Rankings(curves=[curve]))
    assert [name for name, _ in low_rates(results)] == charts
