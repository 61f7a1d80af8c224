"""An emulated Raspberry Pi serves: its wire, its answers and its leakage are those of the host's own device."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from wireleak.lab.devices.pi.recipe import DEVICE, TRAINING
from wireleak.lab.devices.pi.system import is_built, missing
from wireleak.lab.report.boards import boards, compare
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.run.results import read_results

pytestmark = [
    pytest.mark.study,
    pytest.mark.timeout(900),
    pytest.mark.skipif(missing(DEVICE) is not None, reason=str(missing(DEVICE))),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("devices")
    command = [sys.executable, "-m", "wireleak", "pi", "--board", "pi4", "--link", "wifi"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=850)
    assert done.returncode == 0, done.stderr
    assert "report: " in done.stdout and "peak memory: " in done.stdout
    return folder / "runs" / "devices-latest"


def test_the_pi_gets_the_hosts_predictions(run: Path) -> None:
    (use,) = read_results(run).devices
    assert use.cpu == "cortex-a72"
    assert use.inputs == 300
    assert use.prediction_difference < 1e-5
    assert use.activation_difference < 1e-5


def test_its_capture_decodes_bit_for_bit_to_what_it_computed(run: Path) -> None:
    assert [use.decoded_equal for use in read_results(run).devices] == [True]


def test_both_captures_leak_and_each_score_has_an_interval(run: Path) -> None:
    found = {(one.variant, one.attack): one for one in boards(read_results(run).rows)}
    for variant in ("split", "split-pi"):
        score = found[variant, "inversion"].get("mse")
        assert score is not None and score.low < score.value < score.high
        for prior in found[variant, "inversion"].priors("mse"):
            assert compare(score, prior) == "better"
    own, emulated = (found[variant, "inversion"].get("mse") for variant in ("split", "split-pi"))
    assert own is not None and emulated is not None and abs(emulated.value / own.value - 1) < 0.05


def test_tshark_sees_one_connection_of_the_guest_to_the_head(run: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    (cell,) = RunFolder(run).captured()
    fields = ["-T", "fields", "-e", "ip.src", "-e", "ip.dst"]
    opened = ["tshark", "-r", str(cell.capture("serve-pi")), "-Y", "tcp.flags.syn == 1 && tcp.flags.ack == 0", *fields]
    listed = subprocess.run(opened, capture_output=True, text=True, check=True).stdout.split()
    assert listed == ["10.0.2.15", "10.0.2.2"]


@pytest.mark.skipif(not is_built(TRAINING), reason="the system with torch is not built; run devices-federated once")
def test_the_update_of_a_supernode_on_the_pi_reveals_its_input(run_study: Callable[..., Path]) -> None:
    results = read_results(run_study("devices-federated"))
    assert any("client-2 was a SuperNode on an emulated Raspberry Pi 4" in note for note in results.notes)
    (wire,) = [one for one in results.wires if one.link_name == "fleet-client-2"]
    assert {"model-update", "global-model"} <= {kind.kind for kind in wire.kinds}
    (board,) = boards(results.rows)
    score, prior = board.get("mse"), board.get("mse", "mean")
    assert score is not None and prior is not None and score.value < prior.value / 10
