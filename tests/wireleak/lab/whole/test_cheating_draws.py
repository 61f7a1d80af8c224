"""Attacks that repeat the lab's draws: with the right seed each names everything, with its own seeds nothing."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.wireleak.lab.whole.plug_ins import install_plug_in
from wireleak.lab.run.seeds import Seeds
from wireleak.lab.study.schema import Study

# A federation, and six attacks on it.
pytestmark = pytest.mark.study
ROOT = Path(__file__).resolve().parents[4]
ROUNDS = 20
STUDY = f"""
name = "draws"
description = "what an attacker could draw again"
seeds = [0]
[data]
name = "digits"
clients = 2
train = 900
evaluation = 40
attacker = 200
victims = 80
[data.stream]
batch = 16
property = "slant"
[model]
name = "strided28"
[system]
mode = "federated"
rounds = {ROUNDS}
batch = 16
learning_rate = 0.05
optimiser = "sgd"
evaluate_every = {ROUNDS}
[serve]
victim_batch = 1
[threat]
vantage = "link"
sees = ["activation", "model-update", "global-model"]
knows = ["surrogate", "architecture", "weights", "candidates"]
[[variants]]
name = "noised"
cut = 1
transforms = [{{ name = "noise", options = {{ clip = 4, sigma = 8 }} }}]
[[attacks]]
name = "member-loss"
targets = ["member"]
[[attacks]]
name = "candidates"
targets = ["input"]
vantage = "gateway"
"""
CHEATS = '''
"""Attacks that repeat what the lab drew, from every seed that they know."""

import tomllib

import numpy as np
from pydantic import BaseModel

from adversary.attacks.activations.reconstruction.candidates import Candidates
from adversary.attacks.updates.member_loss import MemberLoss
from wireleak import Knows, ThreatModel, UpdateAttack, Vantage
from wireleak.common.targets.attribute import PrivateAttribute


class Options(BaseModel):
    study: str = ""
    seeds: list[int] = []
    distinct: int = 0
    fresh: int = 0
    sigma: float = 0.0


def known(attack, knowledge):
    """The seeds to try: those that the test names, or else all that the attack can find."""
    model = [] if knowledge.model is None else [knowledge.model.seed]
    return attack.settings.seeds or [attack.seed, knowledge.seed, 0, *model]


class Rounds(UpdateAttack):
    """Draw the rounds with the property again."""

    name = "cheat-rounds"
    threat = ThreatModel(vantage=(Vantage.LINK,), sees=("model-update",), knows=(Knows.SURROGATE,))
    target = PrivateAttribute
    options = Options

    def fit(self, knowledge):
        from wireleak.lab.run.division import DivisionSeed, divide
        from wireleak.lab.steps.plan import make_plan
        from wireleak.lab.study.schema import Study

        plan = make_plan(Study.model_validate(tomllib.loads(self.settings.study)))
        has = plan.dataset.attribute("slant").values
        self.drawn = []
        for seed in known(self, knowledge):
            dealt = divide(plan.study, plan.dataset, plan.study.variants[0], DivisionSeed(seed))
            self.drawn.append([{int(r) for r in when[has[rows] == 1]} for rows, when in dealt.streams])

    def guess(self, updates):
        odds = [np.mean([one.round in drawn[one.sender] for drawn in self.drawn]) for one in updates]
        return np.stack([1 - np.array(odds), odds], 1).astype(np.float32)


class Member(MemberLoss):
    """Draw again which of the granted records are members; it even knows from how many they were drawn."""

    name = "cheat-member"
    options = Options

    def fit(self, knowledge):
        self.seeds = known(self, knowledge)

    def guess(self, count):
        odds = []
        for seed in self.seeds:
            rng = np.random.default_rng(seed)
            rng.permutation(self.settings.distinct), rng.permutation(self.settings.fresh)
            odds.append(np.repeat([1, 0], count // 2)[rng.permutation(count)])
        odds = np.mean(odds, 0)
        return np.stack([1 - odds, odds], 1).astype(np.float32)


class Noise(Candidates):
    """Draw the noise again: it follows from a seed and the first input, which is one of the candidates."""

    name = "cheat-noise"
    options = type("NoiseOptions", (Options, Candidates.options), {})

    def fit(self, knowledge):
        from wireleak.common.models import load_weights

        super().fit(knowledge)
        self.seeds = known(self, knowledge)
        self.encoder, _ = knowledge.network().split(knowledge.model.cut)
        load_weights(self.encoder, knowledge.encoder)

    def guess(self, activations):
        import torch

        from client.transforms.randomised.random_transform import generator

        torch.set_num_threads(1)
        seen = torch.from_numpy(activations)
        with torch.inference_mode():
            first = [self.encoder.eval()(torch.from_numpy(x[None])) for x in self._candidates]
        for seed in self.seeds:
            for code, clean in zip(self._codes, first):
                drawing = generator(seed, clean, "")
                noise = [torch.randn(clean.shape, generator=drawing) for _ in seen[:1]]
                left = (seen[0] - self.settings.sigma * noise[0][0]).flatten().numpy()
                if np.abs(left - code).max() < 1e-3:
                    noise += [torch.randn(clean.shape, generator=drawing) for _ in seen[1:]]
                    return super().guess((seen - self.settings.sigma * torch.cat(noise)).numpy())
        return super().guess(activations)
'''


class Run:
    """A finished run, with what only the lab knows of it, and a way to attack it."""

    def __init__(self, folder: Path, plug_in: Path) -> None:
        self.folder, self.plug_in = folder, plug_in
        self.cell = folder / "noised-seed0"
        self.seeds = Seeds.read(folder / "sealed" / "secret", "", repeated=True)
        self.shards = [dict(np.load(self.cell / "sealed" / f"client-{number}.npz")) for number in range(2)]

    def guesses(self, attack: str, target: str, link: str, **options: Any) -> dict[str, Any]:
        # Not beside the plug-in: a jail opens only the modules of a folder that holds results.
        out = self.plug_in.with_name("guesses") / f"{attack}-{'-'.join(options)}"
        command = [sys.executable, "-m", "wireleak", "attack", str(self.cell / "tap" / f"{link}.pcap")]
        command += ["--attack", attack, "--target", target, "--out", str(out)]
        for name, value in options.items():
            command += ["--option", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(self.plug_in)])}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        with np.load(out / "guesses.npz") as held:
            return dict(held)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The draws of this run follow from a fixed secret, and with them every figure below."""
    folder = tmp_path_factory.mktemp("draws")
    (folder / "draws.toml").write_text(STUDY)
    command = [sys.executable, "-m", "wireleak", "run", "draws.toml", "--out", "runs"]
    done = subprocess.run(
        [*command, "--secret", str(ROOT / "tests" / "secret.txt")], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + done.stdout
    cheats = {"cheat-rounds": "Rounds", "cheat-member": "Member", "cheat-noise": "Noise"}
    (folder / "cheats").mkdir()
    plug_in = install_plug_in(folder / "cheats", "cheats", CHEATS, cheats)
    return Run((folder / "runs" / "draws-latest").resolve(), plug_in)


def rounds(run: Run, seeds: list[int]) -> float:
    """AUC of the rounds of client 1 that hold the property; nothing else is drawn."""
    study = (run.folder / "study.toml").read_text()
    guess = run.guesses("cheat-rounds", "slant", "fleet-client-0", study=study, **_named(seeds))
    held = run.shards[1]
    truth = [bool((held["attribute:slant"][held["round"] == number] == 1).any()) for number in range(1, ROUNDS + 1)]
    assert 0 < sum(truth) < ROUNDS
    return float(roc_auc_score(truth, guess["cheat-rounds"][ROUNDS:, 1]))


def membership(run: Run, seeds: list[int]) -> float:
    """AUC of the records that clients trained on."""
    # Of client 1 alone, since client 0 may be the attacker.
    distinct = len(np.unique(run.shards[1]["x"], axis=0))
    guess = run.guesses("cheat-member", "member", "fleet-client-0", distinct=distinct, fresh=80, **_named(seeds))
    with np.load(run.cell / "sealed" / "records.npz") as truth:
        return float(roc_auc_score(truth["member"], guess["cheat-member"][:, 1]))


def noise(run: Run, seeds: list[int]) -> float:
    """The share of the victims' inputs that are named, beyond the share that the honest attack names."""
    guess = run.guesses("cheat-noise", "input", "serve-victim", sigma=8.0, **_named(seeds))["cheat-noise"]
    with np.load(run.cell / "adversary" / "candidates-input" / "guesses.npz") as held:
        honest = held["candidates"]
    with np.load(run.cell / "device-victim" / "inputs.npz") as sent:
        pairs = [zip(one, sent["x"], strict=True) for one in (guess, honest)]
    cheated, usual = (np.mean([np.array_equal(*pair) for pair in each]) for each in pairs)
    assert usual < 0.5, "the noise hides nothing"
    return float(0.5 + (cheated - usual) / 2)


def _named(seeds: list[int]) -> dict[str, list[int]]:
    return {"seeds": seeds} if seeds else {}


@pytest.mark.parametrize(
    ("cheat", "drawn", "strong"),
    [(rounds, ("division",), 1.0), (membership, ("records",), 1.0), (noise, ("victim",), 0.75)],
)
def test_a_draw_is_repeated_with_its_seed_only(
    run: Run, cheat: Callable[[Run, list[int]], float], drawn: tuple[str, ...], strong: float
) -> None:
    """Each measure is 0.5 for a guess without knowledge, and 1 for one that knows the draw."""
    study = Study.model_validate(tomllib.loads(STUDY))
    assert cheat(run, [run.seeds.seed(study.seeds[0], *drawn)]) >= strong
    assert cheat(run, []) < 0.7
