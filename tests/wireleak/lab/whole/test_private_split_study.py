"""A study with DP-SGD in split training and with padded messages: real processes, and what the results say of them."""

import re
from pathlib import Path
from typing import Any

import pytest

from wireleak.common.measures.bounds.accounting import epsilon
from wireleak.lab.run.results import read_results
from wireleak.lab.study.library import load_study
from wireleak.lab.study.schema import StudyError

STUDY = """
name = "private"
description = "a study for tests"
[data]
name = "digits"
clients = 2
train = 200
evaluation = 60
attacker = 40
victims = 30
[model]
name = "strided28"
[system]
rounds = 2
epochs = 1
[[variants]]
name = "plain"
cut = 2
[[variants]]
name = "private"
title = "DP-SGD"
cut = 2
link = "tls"
pad = 32768
privacy = { noise_multiplier = 1.0 }
[[attacks]]
name = "sizes"
targets = ["slant"]
"""


@pytest.fixture
def study_file(tmp_path: Path) -> Any:
    def write(old: Any = "", new: Any = "") -> Path:
        path = tmp_path / "private.toml"
        assert old in STUDY
        path.write_text(STUDY.replace(old, new) if old else STUDY)
        return path

    return write


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("noise_multiplier = 1.0", "noise_multiplier = 0", r"0 adds no noise, so there is no epsilon"),
        ("pad = 32768", "pad = 0", r"variants\[1\]\.pad: 0 is not a size; give bytes from 1 to"),
        (
            "[system]",
            '[serve]\ndevices = false\n[system]\nmode = "federated"',
            r"private\.pad: devices and the head send no messages in this variant; remove pad",
        ),
        (
            "pad = 32768",
            'server = "hijack"',
            r"private\.privacy: a hijacking server adds no noise and may mix examples",
        ),
        ("pad = 32768", 'objective = "autoencoder"', r"private\.privacy: an autoencoder trains without noise"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(study_file: Any, old: str, new: str, message: str) -> None:
    with pytest.raises(StudyError, match=message) as error:
        load_study(str(study_file(old, new)))
    assert "\n" not in str(error.value)


@pytest.mark.study
@pytest.mark.timeout(900)
def test_the_run_tells_epsilon_and_what_it_covers(study_file: Any, wireleak: Any) -> None:
    folder = study_file().parent
    done = wireleak("run", "private.toml", cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    run = (folder / "runs/private-latest").resolve()
    results = read_results(run)
    (spent,) = (task.value for task in results.tasks if task.measure == "epsilon")
    # 100 examples a client: 4 steps an epoch, 2 rounds of 1 epoch; two mechanisms of noise multiplier 1 as one.
    assert spent == pytest.approx(epsilon(2**-0.5, 1 / 4, 8, 1e-5))
    page = (run / "report.html").read_text()
    for words in ("0.707 (1/√2)", "neither activations nor gradients nor labels", "a multiple of 32,768 bytes"):
        assert words in page
    sent = dict.fromkeys(("plain", "private"), 0)
    for wire in results.wires:
        if wire.link_name == "serve-victim":
            sent[wire.variant] += wire.bytes_up
    assert 30 * 32768 < sent["private"] < 30 * 40_000 and sent["plain"] < 30 * 8000
    assert re.search(r"error|Traceback", (run / "private-seed0/logs/head.log").read_text()) is None


@pytest.mark.study
def test_a_defence_that_voids_the_guarantee_is_refused_before_the_run(study_file: Any, wireleak: Any) -> None:
    path = study_file("pad = 32768", 'transforms = [{ name = "nopeek" }]')
    done = wireleak("run", path.name, cwd=path.parent)
    assert done.returncode != 0 and "variants.private.transforms" in done.stderr and "drop it or privacy" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
