"""A malicious client of split training over real links: its messages look honest, and its attack reads encoders."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adversary.tap.decode.read import observations
from wireleak.lab.run.results import read_results
from wireleak.lab.study.library import load_study

ROUNDS = 6
pytestmark = [pytest.mark.study, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the study with few rounds; the run's folder."""
    _, path = load_study("active-split")
    text = path.read_text().replace("= 400", f"= {ROUNDS}").replace("[201, 400]", f"[3, {ROUNDS}]")
    text = text.replace("snapshots = 80", "snapshots = 2").replace("snapshots = 40", "snapshots = 2")
    here = tmp_path_factory.mktemp("active-split")
    (here / "short.toml").write_text(text)
    command = [sys.executable, "-m", "wireleak", "run", "short.toml", "--seeds", "1"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr
    return here / "runs" / "active-split-latest"


def sent(folder: Path, variant: str) -> Any:
    """What client 0 streamed to the head: kinds, shapes and types in order, and the labels of each round."""
    seen = list(observations([folder / f"{variant}-seed0" / "tap" / "train-client-0.pcap"]))
    forms = [(one.kind, one.tensor.shape, one.tensor.dtype) for one in seen]
    return forms, [one.tensor for one in seen if one.kind.value == "label"]


def test_the_poison_has_the_form_of_honest_messages_and_other_labels(folder: Path) -> None:
    honest, labels = sent(folder, "passive")
    poisoned, others = sent(folder, "poisoned")
    assert honest == poisoned and len(labels) == len(others) == ROUNDS
    with np.load(folder / "passive-seed0" / "client-0" / "train.npz") as own:
        for number, batch in enumerate(labels, 1):
            assert np.array_equal(np.sort(batch), np.sort(own["y"][own["round"] == number]))
    assert any(not np.array_equal(np.sort(one), np.sort(other)) for one, other in zip(labels, others, strict=True))


def test_the_attack_reads_an_encoder_s_update_of_every_round(folder: Path) -> None:
    results = read_results(folder)
    counts = {
        (row.variant, row.attack): row.n
        for row in results.rows
        if row.measure == "auc" and row.role == "attack" and row.target == "thickness"
    }
    wanted = {"property-split": ROUNDS, "property-split-late": ROUNDS - 2}
    assert counts == {(variant, name): n for variant in ("passive", "poisoned") for name, n in wanted.items()}
