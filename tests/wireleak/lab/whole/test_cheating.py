"""A cheating attack on a real run: the kernel refuses it other parties' files, and no seed names the victims' draws."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.wireleak.lab.whole.plug_ins import install_plug_in
from wireleak.lab.launch.jail import gap

ROOT = Path(__file__).resolve().parents[4]
CHEAT = '''
"""An attack that reads whatever it can, and repeats the lab's draws from every seed that it knows."""

import socket
import sys
import tomllib
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from wireleak import ActivationAttack, Knows, ThreatModel, Vantage
from wireleak.common.targets.input import Input


class Options(BaseModel):
    study: str
    own: bool


class Cheat(ActivationAttack):
    """Read other parties' files."""

    name = "cheat"
    threat = ThreatModel(vantage=(Vantage.GATEWAY,), sees=("activation",), knows=(Knows.SURROGATE, Knows.QUERIES))
    target = Input
    options = Options

    def fit(self, knowledge):
        config = Path(sys.argv[sys.argv.index("--config") + 1])
        cell = next(folder.parent for folder in config.parents if folder.name == "adversary")
        found = {}
        for name in FILES:
            try:
                (cell / name).read_bytes()
                found[name] = "read"
            except PermissionError:
                found[name] = "refused"
            except OSError as error:
                found[name] = error.strerror
        try:
            socket.create_connection(("127.0.0.1", 9), timeout=1)
            found["socket"] = "connected"
        except PermissionError:
            found["socket"] = "refused"
        except OSError as error:
            found["socket"] = error.strerror
        self.report = {"found": found}

    def guess(self, activations):
        """The victims' inputs, if the study's number or this attack's own seed dealt them."""
        from wireleak.lab.run.division import DivisionSeed, divide
        from wireleak.lab.steps.plan import make_plan
        from wireleak.lab.study.schema import Study

        study = Study.model_validate(tomllib.loads(self.settings.study))
        plan = make_plan(study)
        seed = DivisionSeed(self.seed if self.settings.own else 0)
        dealt = divide(plan.study, plan.dataset, plan.study.variants[0], seed)
        return plan.dataset.x[dealt.roles.victims][: len(activations)]


class Blind(Cheat):
    """The same without the surrogate examples."""

    name = "cheat-blind"
    threat = ThreatModel(vantage=(Vantage.GATEWAY,), sees=("activation",), knows=(Knows.NOTHING,))


FILES = (
    "sealed/ledger.npz",
    "sealed/client-0.npz",
    "../sealed/secret",
    "../plan.json",
    "client-0/train.npz",
    "device-victim/inputs.npz",
    "device-victim/encoder.safetensors",
    "server/history.json",
    "tap/serve-victim.pcap",
    "adversary/granted/surrogate.npz",
)
'''
CAPTURE, SURROGATE = "tap/serve-victim.pcap", "adversary/granted/surrogate.npz"


@pytest.fixture
def plug_in(tmp_path: Path) -> Path:
    """A folder with an installed package that holds the cheating attack."""
    return install_plug_in(tmp_path, "cheating", CHEAT, {"cheat": "Cheat", "cheat-blind": "Blind"})


@pytest.mark.skipif(gap() is not None, reason=f"the kernel cannot enforce it: {gap()}")
@pytest.mark.parametrize(
    ("name", "number", "granted"),
    [("cheat", 0, {CAPTURE, SURROGATE}), ("cheat", 1, {CAPTURE, SURROGATE}), ("cheat-blind", 1, {CAPTURE})],
)
def test_a_cheating_attack_reads_nothing_and_its_seeds_name_nobody(
    tiny_run: Any, plug_in: Path, name: str, number: int, granted: set[str]
) -> None:
    """It tries the study's public number of the seed, and its own seed."""
    _, run, _ = tiny_run
    cell = run / "wide-seed0"
    folder = cell / "adversary" / f"{name}-{number}"
    command = [sys.executable, "-m", "wireleak", "attack", str(cell / "tap/serve-victim.pcap"), "--attack", name]
    command += ["--option", f"study={(run / 'study.toml').read_text()}", "--option", f"own={str(bool(number)).lower()}"]
    command += ["--out", str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(plug_in)])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "meta.json").read_text())["fit"]["found"]
    assert {file for file, said in found.items() if said == "read"} == granted, found
    assert {said for file, said in found.items() if file not in granted} == {"refused"}, found
    with np.load(folder / "guesses.npz") as guesses, np.load(cell / "sealed" / "ledger.npz") as truth:
        guess, mean, x = guesses[name], guesses["control:mean"], truth["x"]
    error, prior = (float(np.square(rows - x).mean()) for rows in (guess, mean))
    assert error > prior
    exact = np.mean([np.array_equal(*pair) for pair in zip(guess, x, strict=True)])
    assert exact < 0.05


def test_no_capture_names_a_folder_of_the_user_s(tiny_run: Any) -> None:
    """The paths of a run's configs would tell the user's name, and often the project's."""
    folder, run, _ = tiny_run
    captures = list(run.glob("*/tap/*.pcap"))
    assert len(captures) > 10
    named = [path.name for path in captures if str(folder).encode() in path.read_bytes()]
    assert named == []
    # The search would find it: the ServerApp's config is named by its place in the cell's folder.
    fleet = [path.read_bytes() for path in run.glob("wide-*/tap/fleet-*.pcap")]
    assert fleet and all(b"server/config.json" in data for data in fleet)
