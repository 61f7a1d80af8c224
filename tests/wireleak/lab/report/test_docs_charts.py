"""Charts of the documents' tables, which are drawn from the parts of a report."""

import importlib
from pathlib import Path

import pytest

from wireleak.lab.report.training_page import TrainingPage, Windows


def test_each_attack_on_a_target_has_a_chart_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[4] / "docs"))
    by_round = importlib.import_module("make_results").by_round
    attacks = {"property": ["thick"], "early": ["slant"], "late": ["slant"]}
    windows = [Windows(attack, target, "auc", {}) for attack, targets in attacks.items() for target in targets]
    names = [name for name, _ in by_round(TrainingPage(windows=windows), {})]
    assert names == ["thick-by-round", "early-slant-by-round", "late-slant-by-round"]
