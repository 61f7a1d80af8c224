"""`wireleak power`: what a design shows, and that a simulated study agrees with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from wireleak.cli import app
from wireleak.common.measures.scores.auc import AreaUnderCurve
from wireleak.common.measures.statistics.bootstrap import resampled_by
from wireleak.common.targets.attribute import PrivateAttribute, Values
from wireleak.common.targets.target import Scored
from wireleak.lab.power import simulation
from wireleak.lab.power.design import Design, designs
from wireleak.lab.power.simulation import Power, power, resolves, shown
from wireleak.lab.power.statement import statements
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
    sure = power(Design(("slant",), "auc", 1, 60), 0.95)
    # 2.8 standard errors, and the interval of the permuted labels, which must not overlap with one seed.
    assert sure.smallest == pytest.approx(0.72, abs=0.02)
    assert (sure.probability, sure.seeds, sure.victims) == (1.0, 1, 60)


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
    assert found["slant"].victims == 500 and found["slant"].persons is None and found["slant"].common == 0


def test_updates_of_one_client_with_one_value_are_one_sample() -> None:
    study, _ = load_study("property-digits")
    rounds = [one for one in designs(study) if one.victims == 50]
    assert rounds and all(one.persons is None and one.share == 0.2 for one in rounds)  # some rounds of one client
    some = study.model_copy(
        update={"attacks": tuple(use.model_copy(update={"rounds": (3, 12)}) for use in study.attacks)}
    )
    assert {one.victims for one in designs(some)} == {len(range(3, 13)) * one.victims // 25 for one in designs(study)}


def test_what_the_task_label_tells_is_no_leak() -> None:
    told = Design(("digit",), "auc", 3, 500, share=0.1, classes=10, known=0.77)
    assert shown(told, 0.77, runs=20) < 0.2 and resolves(told, 0.85)
    assert statements([told]) == ["The task label tells digit with AUC 0.77, which is no leak."]
    said = statements([DESIGN, Design(("gender",), "auc", 5, 96, persons=12, constant=True)])
    assert said[0].startswith("A leak of AUC 0.6 is shown with probability 0.8 or more, of slant (")
    assert said[1].startswith("This study does not resolve a leak of AUC 0.6 of gender (")
    assert said[1].endswith("%: 5 seeds of 12 people).")


@pytest.mark.study
@pytest.mark.parametrize(
    ("auc", "design"),
    [(0.555, DESIGN), (0.6, DESIGN), (0.7, Design(("slant",), "auc", 3, 240, persons=12, constant=True))],
)
def test_attacks_that_scikit_learn_fits_are_called_a_leak_as_often_as_power_says(auc: float, design: Design) -> None:
    """Draw persons, features and labels; fit, and fit to 20 permutations; score as a run does; judge by its rule.

    Nothing of the simulation is used. scikit-learn computes the AUC that the run's own must equal.
    """
    rng, target, runs = np.random.default_rng(11), PrivateAttribute("slant"), 30
    called, values = 0, []
    persons = design.persons or 5000
    for _ in range(runs):
        label, rows = np.arange(persons) % 2, []
        for seed in range(design.seeds):
            real = np.sqrt(2) * stats.norm.ppf(auc + 0.01 * rng.standard_normal())
            if design.persons is None:
                order = rng.permutation(persons)
                victims, ours = order[: design.victims], order[design.victims : design.victims + 1000]
                drawn = rng.standard_normal(persons)
            else:  # half of a record's variance is its person's; the attacker knows others
                persons_of = np.arange(design.victims) % persons
                label, own = np.arange(persons) % 2, np.sqrt(0.5) * rng.standard_normal(persons)
                victims, ours = np.arange(design.victims), design.victims + np.arange(1000)
                label = np.concatenate([label[persons_of], np.arange(1000) % 2])
                drawn = np.sqrt(0.5) * rng.standard_normal(len(label))
                drawn += np.concatenate([own[persons_of], np.sqrt(0.5) * rng.standard_normal(1000)])
            x = np.stack([drawn + real * label, rng.standard_normal(len(label))], 1)

            def guess(y: Any, x: Any = x, ours: Any = ours, victims: Any = victims) -> Any:
                return LinearDiscriminantAnalysis().fit(x[ours], y).predict_proba(x[victims]).astype(np.float32)

            permuted = np.stack([guess(rng.permutation(label[ours])) for _ in range(20)])
            guesses = {"": guess(label[ours]), "majority": np.full((len(victims), 2), 0.5, np.float32)}
            units = victims if design.persons is None else persons_of + persons * seed
            with resampled_by(units):
                scored = target.score(guesses | {"permuted": permuted}, Values(label[victims], None, None), seed)
            scored = [one for one in scored if one.score.measure == "auc"]
            assert scored[0].score.value == pytest.approx(roc_auc_score(label[victims], guesses[""][:, 1]))
            values.append(scored[0].score.value)
            rows += [_row(one, seed) for one in scored]
        (board,) = boards(rows)
        called += beats_priors(board, "auc")
    # The fit costs some of the AUC, so that the power at the mean that was reached is compared.
    assert called / runs == pytest.approx(shown(design, float(np.mean(values))), abs=0.2)


def _row(scored: Scored, seed: int) -> Row:
    where: dict[str, Any] = dict.fromkeys(("study", "variant", "vantage", "attack"), "a")
    found, role = scored.score, "baseline" if scored.guess else "attack"
    ends: dict[str, Any] = {"low": found.low, "high": found.high, "n": found.n, "chance": 0.5}
    row = Row(**where, seed=seed, link="plaintext", target="slant", measure="auc", value=found.value, **ends)
    return row.model_copy(update={"role": role, "name": scored.guess}).drawn(found.draws)


def test_the_command_prints_a_table_and_refuses_other_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "power", lambda *_: Power(0.7, 0.4, 9, None))
    done = CliRunner().invoke(app, ["power", "digits", "--seeds", "1", "--victims", "40"], terminal_width=80)
    assert done.exit_code == 0, done.output
    assert "40 %; needs 9" in done.output and "AUC 0.700" in done.output
    assert "simulating design 1 of 3: input" in done.stderr  # there is no terminal
    assert "leaks shown with probability 0.8" in done.output and max(map(len, done.output.splitlines())) <= 80
    for wrong, said in (("acu=.6", "auc"), ("auc=.4", "above 0.5"), ("reid=x", "reid=NUMBER")):
        done = CliRunner().invoke(app, ["power", "digits", "--effect", wrong])
        assert done.exit_code == 2 and said in done.output
