import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel

from adversary.attacks.harness.knowledge import Knowledge, surrogate
from adversary.attacks.harness.registry import ATTACKS, register
from adversary.attacks.harness.run import attack, describe
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.registry import summary

OUTSIDE = '''
import numpy as np
from pydantic import BaseModel, Field
from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.input import Input


class Options(BaseModel):
    value: float = Field(0.5, description="What to guess.")


class Grey(ActivationAttack):
    """Guess grey, whatever was sent.

    From outside.
    """

    name = "grey"
    threat = ThreatModel((Vantage.LINK,), ("activation",), (Knows.SURROGATE,))
    target = Input
    options = Options

    def fit(self, knowledge):
        self.shape = knowledge.inputs.shape[1:]

    def guess(self, activations):
        return np.full((len(activations), *self.shape), self.settings.value, np.float32)
'''


def described(capsys: pytest.CaptureFixture[str]) -> Any:
    describe()
    return {one["name"]: one for one in json.loads(capsys.readouterr().out)}


def test_an_outside_package_adds_an_attack_that_runs(
    installed: Any, config: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(ATTACKS, OUTSIDE, grey="outside:Grey")
    grey = described(capsys)["grey"]
    assert grey["targets"] == "input" and grey["summary"] == "Guess grey, whatever was sent."
    assert grey["threat"] == {"vantage": ["link"], "sees": ["activation"], "knows": ["surrogate"]}
    path, out = config(attack="grey", options={"value": 0.25})
    attack(path)
    with np.load(out / "guesses.npz") as guesses:
        assert (guesses["grey"] == 0.25).all() and "control:ridge" in guesses


@pytest.mark.parametrize("target", ["outside:Absent", "nowhere:Grey", "outside:Options"])
def test_a_broken_package_is_one_line_when_it_is_asked_for_and_costs_no_other_attack(
    installed: Any, config: Any, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    installed(ATTACKS, OUTSIDE, grey=target)
    known = described(capsys)
    assert target in known["grey"]["error"] and known["grey"]["source"] == "outside" and "error" not in known["covert"]
    with pytest.raises(SystemExit) as end:
        attack(config(attack="grey")[0])
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and "'grey'" in error and target in error


def test_a_name_belongs_to_one_attack() -> None:
    ours = ATTACKS.get("inversion")
    assert register(ours) is ours
    with pytest.raises(ValueError, match="registered twice"):
        register(type("Other", (ours,), {"name": "inversion"}))


def test_every_attack_documents_itself() -> None:
    for name, one in ATTACKS.all().items():
        assert one.name == name and summary(one).endswith(".")
        assert issubclass(one.options, BaseModel) and one.options()
        assert all(field.description for field in one.options.model_fields.values())


def test_threat_models_take_known_words_alone() -> None:
    with pytest.raises(ValueError, match=r"threat\.sees"):
        ThreatModel((Vantage.LINK,), ("thoughts",), (Knows.NOTHING,))
    with pytest.raises(ValueError, match=r"threat\.vantage"):
        ThreatModel((), ("activation",), (Knows.NOTHING,))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": None}, "'x'"),
        ({"y": np.zeros(3)}, "'y'"),
        ({"attribute:left": np.full(6, -1)}, "negative"),
        ({"augmented": np.ones(6, bool)}, "augmented"),
        ({"x": np.full((6, 2), np.nan)}, "finite"),
    ],
)
def test_a_surrogate_file_that_is_wrong_says_where(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    arrays = {"x": np.zeros((6, 2)), "y": np.zeros(6), "attribute:left": np.zeros(6)} | changes
    np.savez(tmp_path / "s.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(ValueError, match=words):
        surrogate(tmp_path / "s.npz", "left", 0)


def test_copies_train_but_never_validate(surrogate_known: Knowledge) -> None:
    held = surrogate_known.held_out()
    assert held.sum() == 40 and not (held & surrogate_known.augmented).any()
    assert np.array_equal(held, surrogate_known.held_out())


@pytest.fixture
def surrogate_known(tmp_path: Path) -> Knowledge:
    np.savez(tmp_path / "s.npz", x=np.zeros((360, 2)), y=np.zeros(360), augmented=np.arange(360) >= 240)
    return surrogate(tmp_path / "s.npz", None, 0)
