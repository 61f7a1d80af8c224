"""An attack on a federated training that got fewer updates, rounds or clients than promised is marked everywhere."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save_file

from adversary.attacks.harness.config import AttackConfig
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.training import Update
from adversary.attacks.harness.update_attack import ModelAttack, UpdateAttack
from tests.wireleak.lab.report import synthetic
from wireleak.common.measures import Score
from wireleak.common.reads import MARK
from wireleak.common.targets.attribute import PrivateAttribute
from wireleak.common.targets.target import OWN, Scored
from wireleak.lab.report.page import page, terminal_table
from wireleak.lab.run.attack_folder import AttackFolder
from wireleak.lab.run.results import Row, write_results
from wireleak.lab.steps import score

CLIENTS, ROUNDS = 3, 2
NOTHING = np.zeros(0, np.float32)
KNOWN = Knowledge(NOTHING, NOTHING, np.zeros(0, np.int64), None, 2, np.zeros(0, bool), 0)


class OfUpdates(UpdateAttack):
    def fit(self, knowledge: Knowledge) -> None: ...

    def guess(self, updates: Sequence[Update]) -> Array:
        return np.zeros((len(updates), 2), np.float32)


class OfModels(ModelAttack):
    def fit(self, knowledge: Knowledge) -> None: ...

    def guess(self, count: int) -> Array:
        return np.zeros((count, 2), np.float32)


@pytest.fixture
def records(tmp_path: Path) -> list[Path]:
    """A curious server's records, one folder per client."""
    folders = [tmp_path / f"client-{client}" for client in range(CLIENTS)]
    for client, folder in enumerate(folders):
        folder.mkdir()
        for number in range(1, ROUNDS + 1):
            save_file({"w": np.full(3, number, np.float32)}, folder / f"round-{number}-start.safetensors")
            save_file({"w": np.full(3, number + client, np.float32)}, folder / f"round-{number}-end.safetensors")
    return folders


def read_of(kind: type[UpdateAttack] | type[ModelAttack], records: list[Path], **changes: Any) -> dict[str, Any]:
    """What the harness writes about an attack's reading into its metadata."""
    units = [(client, number) for client in range(CLIENTS) for number in range(1, ROUNDS + 1)]
    plan = {"rounds": ROUNDS, "epochs": 1, "batch": 4, "learning_rate": 0.1}
    training = {"plan": plan, "participants": CLIENTS, "examples": 4, "units": units} | changes
    config = AttackConfig.model_validate(
        {
            "attack": "any",
            "target": "slant",
            "captures": {"victims": records},
            "granted": {"surrogate": "none.npz"},
            "training": training,
            "victims": len(units),
            "out": "none",
        }
    )
    seen = kind.observe(None, config, KNOWN)
    return {
        "reads": {OWN: [asdict(one) for one in seen.reads]},
        "prior": seen.unseen,
        "fit": None,
        "training": training,
    }


def less(records: list[Path], name: str) -> list[Path]:
    """The records without a client's replies, without a round's, or without the models of the last round."""
    if name == "a client":
        shutil.rmtree(records[1])
        records[1].mkdir()
    else:
        for folder in records:
            (folder / f"round-2-{'end' if name == 'a round' else 'start'}.safetensors").unlink()
    return records


CASES = [
    (OfUpdates, "a client", {}, "read 4 of 6 updates"),
    (OfUpdates, "a round", {}, "read 3 of 6 updates"),
    (OfModels, "a client", {}, "read 4 of 6 updates"),
    (OfModels, "the last models", {"released": True}, "read 1 of 2 rounds"),
]


def test_a_whole_training_has_no_mark(records: list[Path]) -> None:
    assert score.partly_of(read_of(OfUpdates, records)) == {OWN: ""}
    assert score.partly_of(read_of(OfModels, records, released=True)) == {OWN: ""}


@pytest.mark.parametrize(("kind", "missing", "changes", "said"), CASES, ids=lambda value: str(value))
def test_the_mark_is_in_the_table_the_file_and_the_report(
    records: list[Path], kind: Any, missing: str, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    folder = AttackFolder(tmp_path / "attack")
    folder.path.mkdir()
    folder.meta.write_text(json.dumps(read_of(kind, less(records, missing), **changes)))
    results = synthetic.results((0,))
    (shown,) = [
        one for one in results.rows if (one.variant, one.target, one.measure, one.name) == ("cut1", "digit", "auc", "")
    ]

    def row(**figures: Any) -> Row:
        return Row.model_validate(shown.model_dump() | figures)

    class Sought(PrivateAttribute):
        def ground_truth(self, sealed: Any) -> Any:
            return None

        def score(self, guesses: Any, truth: Any, seed: int) -> list[Scored]:
            return [Scored("digit", name, Score("auc", 0.9, 0.8, 1.0, 6, 0.5)) for name in guesses]

    guesses: dict[str, Any] = {"of": np.zeros((6, 2)), "control:permuted": np.zeros((6, 2))}
    np.savez(folder.guesses, **guesses)
    variant = SimpleNamespace(encrypted=False)
    job: Any = SimpleNamespace(
        out=folder.path,
        guesses=folder.guesses,
        use=SimpleNamespace(name="of"),
        sought=Sought("digit"),
        target="digit",
        vantage="server",
        cell=SimpleNamespace(variant=variant, plan=SimpleNamespace(secure=False), seed=0),
        truth=lambda *, federated: SimpleNamespace(replicates=lambda: None),
        row=row,
    )
    results.rows = score.score_job(job)
    assert [one.incomplete for one in results.rows] == [said] * 2
    write_results(results, tmp_path)
    with (tmp_path / "results.csv").open() as file:
        assert [one["incomplete"] for one in csv.DictReader(file)] == [said] * 2
    console = Console(width=160)
    with console.capture() as printed:
        console.print(terminal_table(results))
    html = page(results, []).replace("&#39;", "'")
    for text in (" ".join(printed.get().split()), html):
        assert f"0.900{MARK}" in text and f"{MARK} {said} (cut1: digit by attributes)" in text
