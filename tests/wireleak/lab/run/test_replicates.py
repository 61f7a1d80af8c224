"""Resampled scores in their file, and the accuracy of a run's task resampled by example."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from scipy import stats

from wireleak.common.files import write_arrays
from wireleak.common.measures.statistics.bootstrap import interval
from wireleak.lab.report.defences import compare_defences
from wireleak.lab.run import results as r
from wireleak.lab.run import truth
from wireleak.lab.run.replicates import write_draws
from wireleak.lab.run.results import read_results, write_results

WHERE: Any = {"study": "s", "seed": 0, "link": "plaintext", "vantage": "gateway", "attack": "a", "target": "slant"}


def small_run(*tasks: r.Task, variants: tuple[r.VariantSummary, ...] = ()) -> r.Results:
    """Results with one score, whose resampled values are kept."""
    row = r.Row(**WHERE, variant="v", measure="auc", value=0.7, n=9).drawn(np.full(4, 0.7))
    return r.Results(study="s", created="", command="", rows=[row], tasks=list(tasks), variants=list(variants))


def task(draws: Any = None) -> r.Task:
    return r.Task(variant="v", seed=0, value=0.5, n=10, rounds=1).drawn(draws)


def test_resampled_values_of_scores_and_of_tasks_survive_their_file(tmp_path: Path) -> None:
    write_results(small_run(task(), task(np.arange(4.0))), tmp_path)
    found = read_results(tmp_path)
    assert found.rows[0].draws == pytest.approx([0.7] * 4)
    assert found.tasks[0].draws is None
    assert found.tasks[1].draws == pytest.approx(np.arange(4.0))


def test_a_run_of_an_older_version_keeps_the_resampled_values_of_its_scores(tmp_path: Path) -> None:
    run = small_run(task())
    write_results(run, tmp_path)
    write_draws(run.rows, tmp_path)
    assert read_results(tmp_path).rows[0].draws == pytest.approx([0.7] * 4)


@dataclasses.dataclass
class Clients:
    """Two clients' evaluation data and answers, as files of a cell."""

    folder: Path
    right: np.ndarray
    labels: Any = None

    def __post_init__(self) -> None:
        inputs = np.random.default_rng(1).normal(size=(len(self.right), 3)).astype(np.float32)
        halves = np.array_split(np.arange(len(self.right)), 2)
        for name, rows in zip(("client-0", "client-1"), halves, strict=True):
            labels = {} if self.labels is None else {"y": self.labels[rows]}
            write_arrays(self.folder / f"{name}-evaluation.npz", {"x": inputs[rows], **labels})
            write_arrays(self.folder / f"{name}-answers.npz", {"right": self.right[rows]})

    @property
    def cell(self) -> Any:
        def named(kind: str) -> Any:
            return lambda client: self.folder / f"{client}-{kind}.npz"

        clients = ("client-0", "client-1")
        return cast(
            Any, SimpleNamespace(clients=clients, seed=0, evaluation=named("evaluation"), answers=named("answers"))
        )


def test_the_interval_of_an_accuracy_is_scipy_s(tmp_path: Path) -> None:
    right = np.random.default_rng(0).random(300) < 0.8
    draws = truth.resampled_accuracy(Clients(tmp_path, right).cell, float(right.mean()))
    assert draws is not None
    theirs = stats.bootstrap((right,), np.mean, rng=np.random.default_rng(2)).confidence_interval
    assert interval(draws) == pytest.approx((theirs.low, theirs.high), abs=0.01)


@pytest.mark.parametrize("missing", ["no file", "another evaluation"])
def test_without_the_answers_of_this_evaluation_there_are_no_resampled_values(tmp_path: Path, missing: str) -> None:
    right = np.arange(20) < 15
    cell = Clients(tmp_path, right).cell
    if missing == "no file":
        cell.answers("client-1").unlink()
        assert truth.resampled_accuracy(cell, 0.75) is None
    else:
        assert truth.resampled_accuracy(cell, 0.70) is None


@pytest.mark.parametrize(
    ("trained", "mode", "on_the_wire"),
    [(True, "split", True), (False, "federated", True), (False, "split", False)],
)
def test_the_accuracy_under_transforms_that_only_a_device_applies_is_that_of_its_predictions(
    tmp_path: Path, trained: bool, mode: str, on_the_wire: bool
) -> None:
    # Such noise cost nothing before: the network was evaluated without it.
    clients = Clients(tmp_path, np.ones(40, bool), labels=np.zeros(40, int)).cell
    scores = np.eye(2, dtype=np.float32)[[0, 1, 1, 0]]
    write_arrays(tmp_path / "predictions.npz", {"prediction": scores})
    write_arrays(tmp_path / "ledger.npz", {"x": scores, "y": np.array([0, 0, 0, 1])})
    clients.ledger, clients.predictions = tmp_path / "ledger.npz", lambda device: tmp_path / "predictions.npz"
    clients.study = SimpleNamespace(
        model=SimpleNamespace(trained=trained),
        serve=SimpleNamespace(devices=True),
        variants=[SimpleNamespace(transforms=()), SimpleNamespace(transforms=("noise",))],
        plan_of=lambda variant: SimpleNamespace(mode=mode),
    )
    found = truth.accuracy_of(clients, 1.0)
    assert found.draws is not None and interval(found.draws)[1] <= 1
    assert (found.value, found.n, found.majority) == ((0.25, 4, 0.75) if on_the_wire else (1.0, 40, 1.0))
    clients.study.variants.pop()
    assert truth.accuracy_of(clients, 1.0).n == 40


def test_the_accuracy_that_a_defence_costs_is_judged_by_examples_and_seeds() -> None:
    rng = np.random.default_rng(0)
    variants, rows, tasks, fits = [], [], [], []
    for name, level in (("bare", 0.90), ("noise", 0.88)):
        variants.append(
            r.VariantSummary(name=name, cut=1, link="plaintext", defence="none" if name == "bare" else name)
        )
        for seed in range(3):
            score: Any = WHERE | {"variant": name, "seed": seed, "measure": "auc", "n": 9}
            rows.append(r.Row(**score, value=0.7))
            fits.append(r.Fit(variant=name, seed=seed, attack="a", target="slant", held_out_loss=0.3))
            value = level + 0.02 * (seed - 1)
            tasks.append(
                r.Task(variant=name, seed=seed, value=value, n=10, rounds=1).drawn(value + rng.normal(0, 0.004, 400))
            )
    run = r.Results(study="s", created="", command="", rows=rows, tasks=tasks, fits=fits, variants=variants)
    (found,) = compare_defences(run)
    lost = next(point.lost for point in found.points if point.defence == "noise")
    # The seeds lose alike, so what is left is the examples' own spread, over three seeds of two independent draws.
    assert lost.value == pytest.approx(0.02)
    assert (lost.high - lost.low) / 2 == pytest.approx(1.96 * 0.004 * np.sqrt(2 / 3), rel=0.15)
    accuracy = next(point.accuracy for point in found.points if point.defence == "none")
    # Student's t over these three seeds has a half-width of 0.05.
    assert (accuracy.high - accuracy.low) / 2 < 0.03
