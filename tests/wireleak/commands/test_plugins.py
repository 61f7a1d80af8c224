"""`wireleak plugins`, and a package outside the tree that adds one plug-in of every kind."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = {
    "attacks": '''
        from adversary.attacks.harness.activation_attack import ActivationAttack
        from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
        from pydantic import BaseModel
        from wireleak.common.targets.input import Input

        class Options(BaseModel):
            """No settings."""

        class Own(ActivationAttack):
            """Guess grey."""

            name, target, options = "own", Input, Options
            threat = ThreatModel((Vantage.LINK,), ("activation",), (Knows.SURROGATE,))

            def fit(self, knowledge):
                self.shape = knowledge.inputs.shape[1:]

            def guess(self, activations):
                return 0.5
    ''',
    "targets": '''
        from wireleak.common.targets.attribute import PrivateAttribute
        from wireleak.common.targets.registry import register

        @register
        class Own(PrivateAttribute):
            """Whether an input is bright."""

            name, attribute = "own", None
    ''',
    "transforms": '''
        from client.transforms.registry import Changes, Transform
        from pydantic import BaseModel

        class Own(Transform):
            """Halve the activation."""

            name, options, changes = "own", BaseModel, Changes("nothing", "half of everything")
    ''',
    "measures": '''
        from dataclasses import dataclass
        from wireleak.common.measures import Measure, Score

        @dataclass(frozen=True, kw_only=True)
        class Own(Measure):
            """Report the largest error."""

            name: str = "own"
            label: str = "Largest error"
            meaning: str = "largest error of a value"
            applies_to: str = "reconstruction"

            def __call__(self, guess, truth, rng):
                return Score("own", 0.0, 0.0, 0.0, len(guess))
    ''',
    "datasets": '''
        from pathlib import Path
        import numpy as np
        from wireleak.lab.data import Dataset, register

        @register("own", locate=lambda folders: Path(), examples=20, shape=(4,), task="t", attributes=(), obtain="-",
                  licence="-")
        def Own(where):
            """Draw noise."""
            x = np.random.default_rng(0).random((20, 4), np.float32)
            return Dataset("own", x, np.arange(20) % 2, "side", ("left", "right"), {}, {}, "computed")
    ''',
    "networks": '''
        from torch import nn
        from wireleak.common.models.networks import register

        @register("own")
        def Own(input_shape, classes):
            """Flatten, then one layer."""
            return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))
    ''',
    "participants": '''
        from adversary.participant.registry import Strategy

        class Own(Strategy):
            """Send the global model back."""

            name = "own"

            def train(self, network, inputs, labels, how):
                return 0.0
    ''',
    "initial_models": '''
        from adversary.initial.models import register

        @register("own")
        def Own(config):
            """Write nothing."""
    ''',
    "strategies": '''
        from flwr.serverapp.strategy import FedAvg
        from server.strategies import register

        @register("own")
        def Own(settings, clients):
            """Average."""
            return FedAvg()
    ''',
    "mods": '''
        from client.mods import register

        @register("own")
        def Own(settings):
            """Send the update as it is."""
            return lambda message, context, following: following(message, context)
    ''',
}


def wireleak(*argv: Any, path: Any = ()) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with folders on Python's path."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *map(str, path)]), "COLUMNS": "80"}
    return subprocess.run([sys.executable, "-m", "wireleak", *argv], capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed package, `elsewhere`: one plug-in of every kind, and for each kind a broken one."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "elsewhere").mkdir()
    lines = []
    for kind, source in SOURCES.items():
        (folder / "elsewhere" / f"{kind}.py").write_text("\n".join(line[8:] for line in source.splitlines()))
        lines += [f"[wireleak.{kind}]", f"own = elsewhere.{kind}:Own", "broken = elsewhere.missing:Own"]
    info = folder / "elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder


def test_a_package_outside_the_tree_adds_a_plug_in_of_every_kind(package: Path) -> None:
    done = wireleak("plugins", "--json", path=[package])
    assert not done.returncode, done.stderr
    listed = json.loads(done.stdout)
    assert set(listed) == set(SOURCES)
    for kind, rows in listed.items():
        named = {row["name"]: row for row in rows}
        assert named["own"]["source"] == "elsewhere" and named["own"]["error"] is None, kind
        assert named["own"]["summary"].endswith("."), kind
        # One that cannot be loaded is listed with its error, and costs no other.
        assert "No module named 'elsewhere.missing'" in named["broken"]["error"], kind
        ours = [row for row in rows if row["source"] == "wireleak"]
        assert len(ours) == len(rows) - 2 > 0 and not any(row["error"] for row in ours), kind


def test_the_list_fits_80_columns_and_one_kind_can_be_asked_for(package: Path) -> None:
    done = wireleak("plugins", "datasets", path=[package])
    assert not done.returncode and all(len(line) <= 80 for line in done.stdout.splitlines())
    assert done.stdout.startswith("datasets (entry points wireleak.datasets)") and "strategies" not in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(" own ")]
    assert line.split() == ["own", "Draw", "noise.", "elsewhere"]
    assert "cannot be loaded" in done.stdout


def test_a_plug_in_is_used_next_to_a_broken_one_that_is_named_once(package: Path) -> None:
    done = wireleak("data", "own", path=[package])
    assert not done.returncode and "left 50.0%" in done.stdout, done.stderr
    done = wireleak("data", path=[package])
    assert not done.returncode and "own" in done.stdout
    assert done.stderr.startswith(
        "data set 'broken' of elsewhere is left out, it cannot be loaded: elsewhere.missing:Own"
    )
    assert done.stderr.count("\n") == 1


def test_the_documents_show_the_entry_points_of_every_kind() -> None:
    page = (ROOT / "docs" / "how-to" / "plug-ins.md").read_text()
    (lines,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    groups = tomllib.loads(lines)["project"]["entry-points"]
    assert set(groups) == {f"wireleak.{kind}" for kind in SOURCES}


def test_a_broken_package_is_one_line_when_its_plug_in_is_asked_for(package: Path) -> None:
    done = wireleak("data", "broken", path=[package])
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("wireleak: data: data set 'broken' of elsewhere cannot be loaded: elsewhere.missing")


def test_an_unknown_kind_is_answered_with_the_nearest() -> None:
    done = wireleak("plugins", "atacks")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "no kind of plug-in called 'atacks'; did you mean 'attacks'? Choose one of attacks, " in done.stderr
