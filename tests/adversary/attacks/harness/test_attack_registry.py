import json

import numpy as np
import pytest
from pydantic import BaseModel

from adversary.attacks.harness import registry
from adversary.attacks.harness.knowledge import surrogate
from adversary.attacks.harness.run import attack, describe
from adversary.attacks.harness.threat import ThreatModel, Vantage

OUTSIDE = '''
import numpy as np
from pydantic import BaseModel, Field
from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage


class Options(BaseModel):
    value: float = Field(0.5, description="What to guess.")


class Grey(ActivationAttack):
    """Guess grey, whatever was sent.

    From outside.
    """

    name = "grey"
    threat = ThreatModel((Vantage.LINK,), ("activation",), (Knows.SURROGATE,))
    targets = "input"
    options = Options

    def fit(self, knowledge):
        self.shape = knowledge.inputs.shape[1:]

    def guess(self, activations):
        return np.full((len(activations), *self.shape), self.settings.value, np.float32)
'''


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """Installs a package whose entry point is `target`."""

    registry.attacks()  # ours, before the patch below, so that they outlast it

    def outside(target, source=OUTSIDE):
        (tmp_path / "greyness.py").write_text(source)
        info = tmp_path / "greyness-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greyness\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[wireleak.attacks]\ngrey = {target}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(__import__("sys").modules, "greyness", raising=False)
        monkeypatch.setattr(registry, "_registered", dict(registry._registered))

    return outside


def test_an_outside_package_adds_an_attack_that_runs(outside, config, capsys):
    outside("greyness:Grey")
    describe()
    grey = {one["name"]: one for one in json.loads(capsys.readouterr().out)}["grey"]
    assert grey["targets"] == "input" and grey["summary"] == "Guess grey, whatever was sent."
    assert grey["threat"] == {"vantage": ["link"], "sees": ["activation"], "knows": ["surrogate"]}
    path, out = config(attack="grey", options={"value": 0.25})
    attack(path)
    with np.load(out / "guesses.npz") as guesses:
        assert (guesses["grey"] == 0.25).all() and "control:ridge" in guesses


@pytest.mark.parametrize("target", ["greyness:Absent", "nowhere:Grey", "greyness:Options"])
def test_a_broken_package_is_one_line(outside, capsys, target):
    outside(target)
    with pytest.raises(SystemExit) as end:
        describe()
    told = capsys.readouterr().err
    assert end.value.code == 2 and told.count("\n") == 1 and "'grey'" in told and target in told


def test_a_name_belongs_to_one_attack(monkeypatch):
    registry.attacks()
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    ours = registry.find("inversion")
    assert registry.register(ours) is ours
    with pytest.raises(ValueError, match="registered twice"):
        registry.register(type("Other", (ours,), {"name": "inversion"}))


def test_every_attack_documents_itself():
    for name, one in registry.attacks().items():
        assert one.name == name and registry.summary(one).endswith(".")
        assert issubclass(one.options, BaseModel) and one.options()
        assert all(field.description for field in one.options.model_fields.values())


def test_threat_models_take_known_words_alone():
    with pytest.raises(ValueError, match=r"threat\.sees"):
        ThreatModel((Vantage.LINK,), ("thoughts",), ("nothing",))
    with pytest.raises(ValueError, match=r"threat\.vantage"):
        ThreatModel((), ("activation",), ("nothing",))


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
def test_a_surrogate_file_that_is_wrong_says_where(tmp_path, changes, words):
    arrays = {"x": np.zeros((6, 2)), "y": np.zeros(6), "attribute:left": np.zeros(6)} | changes
    np.savez(tmp_path / "s.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(ValueError, match=words):
        surrogate(tmp_path / "s.npz", "left", 0)


def test_copies_train_but_never_validate(surrogate_known):
    held = surrogate_known.held_out()
    assert held.sum() == 40 and not (held & surrogate_known.augmented).any()
    assert np.array_equal(held, surrogate_known.held_out())


@pytest.fixture
def surrogate_known(tmp_path):
    np.savez(tmp_path / "s.npz", x=np.zeros((360, 2)), y=np.zeros(360), augmented=np.arange(360) >= 240)
    return surrogate(tmp_path / "s.npz", "input", 0)
