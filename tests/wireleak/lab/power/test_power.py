"""`wireleak power`: what a design shows, and that a simulated study agrees with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from wireleak.cli import app
from wireleak.common.measures.scores.auc import AreaUnderCurve
from wireleak.lab.power import simulation
from wireleak.lab.power.design import Design, designs
from wireleak.lab.power.simulation import Power, power, shown
from wireleak.lab.report.boards import boards
from wireleak.lab.report.verdicts import beats_priors
from wireleak.lab.run.results import Row
from wireleak.lab.study.library import load_study

DESIGN = Design(("slant",), "auc", 3, 500)


def test_a_useless_attack_is_called_a_leak_in_less_than_one_run_of_twenty() -> None:
    for design in (DESIGN, Design(("input",), "reid", 3, 500), Design(("slant",), "auc", 1, 500)):
        assert shown(design, 0.5 if design.measure == "auc" else 1 / 500) <= 0.05


def test_power_rises_with_the_leak_the_seeds_and_the_victims() -> None:
    small = Design(("slant",), "auc", 3, 60)
    assert shown(small, 0.6) < shown(small, 0.7)
    assert shown(small, 0.6) < shown(small.resized(seeds=9), 0.6)
    assert shown(small, 0.6) < shown(small.resized(victims=500), 0.6)
    # Twelve persons are fewer samples than 600 victims.
    people = Design(("slant",), "auc", 3, 600, persons=12, constant=True)
    assert shown(people, 0.7) < shown(small.resized(victims=600), 0.7)


def test_what_is_needed_is_enough_and_one_step_less_is_not() -> None:
    small = Design(("slant",), "auc", 3, 60)
    found = power(small, 0.65)
    assert found.probability < 0.8 and found.smallest > 0.65
    assert found.seeds is not None and found.victims is not None
    assert shown(small.resized(seeds=found.seeds), 0.65) >= 0.8 > shown(small.resized(seeds=found.seeds - 1), 0.65)
    assert shown(small.resized(victims=found.victims), 0.65) >= 0.8
    sure = power(DESIGN, 0.95)
    assert sure.smallest == pytest.approx(0.56, abs=0.02)
    assert (sure.probability, sure.seeds, sure.victims) == (1.0, 3, 500)


def test_real_scores_are_called_a_leak_as_often_as_is_printed() -> None:
    """Scores of 60 victims and three seeds, bootstrapped and judged as a run's are; half of the runs show the leak."""
    design, effect, runs = Design(("slant",), "auc", 3, 60), 0.64, 40
    rng, auc = np.random.default_rng(5), AreaUnderCurve()
    called = 0
    for _ in range(runs):
        rows = []
        for seed in range(design.seeds):
            label = np.arange(design.victims) % 2
            score = stats.norm.cdf(rng.standard_normal(len(label)) + np.sqrt(2) * stats.norm.ppf(effect) * label)
            found = auc(np.stack([1 - score, score], 1), label, rng)
            ends: dict[str, Any] = {"low": found.low, "high": found.high, "n": found.n, "chance": 0.5}
            where: dict[str, Any] = dict.fromkeys(("study", "variant", "vantage", "attack"), "a")
            row = Row(**where, seed=seed, link="plaintext", target="slant", measure="auc", value=found.value, **ends)
            rows.append(row.drawn(found.draws))
        (board,) = boards(rows)
        called += beats_priors(board, "auc")
    assert called / runs == pytest.approx(shown(design, effect), abs=0.2)


def test_the_design_of_a_study_is_read_from_its_data() -> None:
    study, _ = load_study("digits")
    found = {target: one for one in designs(study) for target in one.targets}
    assert found["input"].measure == "reid" and (found["digit"].classes, found["digit"].seeds) == (10, 3)
    assert found["slant"].victims == 500 and found["slant"].persons is None and found["slant"].common == 0.1


def test_the_command_prints_a_table_and_refuses_other_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "power", lambda *_: Power(0.7, 0.4, 9, None))
    done = CliRunner().invoke(app, ["power", "digits", "--seeds", "1", "--victims", "40"], terminal_width=80)
    assert done.exit_code == 0, done.output
    assert "needs 9 seeds" in " ".join(done.output.split()) and "AUC 0.700" in done.output
    assert "leaks shown with probability 0.8" in done.output and max(map(len, done.output.splitlines())) <= 80
    for wrong, said in (("acu=.6", "auc"), ("auc=.4", "above 0.5"), ("reid=x", "reid=NUMBER")):
        done = CliRunner().invoke(app, ["power", "digits", "--effect", wrong])
        assert done.exit_code == 2 and said in done.output
