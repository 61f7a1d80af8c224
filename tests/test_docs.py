"""The examples in README and docs/ run."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from wireleak.lab.steps.plan import make_plan
from wireleak.lab.study.schema import Study

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language, path=ROOT / "docs" / "guide.md"):
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


def test_the_example_study_can_run():
    text, *_ = blocks("toml")
    plan = make_plan(Study.model_validate(tomllib.loads(text)))
    assert plan.parts(plan.first)["victims"] == 300


def test_the_example_sweep_can_run():
    study, sweep, _ = (tomllib.loads(text) for text in blocks("toml"))
    plan = make_plan(Study.model_validate(study | sweep))
    assert [variant.name for variant in plan.study.variants][2:] == ["noise-0-5", "noise-1", "noise-2"]


def test_the_example_of_federated_training_can_run():
    """The guide shows the keys that differ from the study above it."""
    study, _, changes = (tomllib.loads(text) for text in blocks("toml"))
    study["data"] |= changes["data"]
    study |= {"system": changes["system"], "variants": changes["variants"], "attacks": []}
    study["data"]["clients"] = 4
    study["serve"] = {"devices": False}
    plan = make_plan(Study.model_validate(study))
    (variant,) = plan.study.variants
    assert plan.study.system_of(variant).epochs == 5 and len(plan.first.streams) == 8


def test_the_example_attack_registers_fits_and_guesses():
    from adversary.attacks.harness.knowledge import Knowledge
    from adversary.attacks.harness.registry import ATTACKS

    code = next(block for block in blocks("python") if "class NearestMean" in block)
    exec(compile(code, "guide.md", "exec"), {"__name__": "guide"})
    attack = ATTACKS.get("nearest-mean")
    rng = np.random.default_rng(0)
    inputs = rng.random((50, 1, 4, 4), dtype=np.float32)
    labels = np.zeros(50, np.int64)
    known = Knowledge(inputs.reshape(50, 16), inputs, labels, None, 0, np.zeros(50, bool), 0)
    made = attack(attack.options(neighbours=1), 0)
    made.fit(known)
    assert np.array_equal(made.guess(inputs.reshape(50, 16)[:5]), inputs[:5])


def test_the_example_transform_registers_and_clamps():
    import torch

    from client.transforms.chain import Chain
    from wireleak.common.config import Plugin

    code = next(block for block in blocks("python") if "class Clamp" in block)
    exec(compile(code, "guide.md", "exec"), {"__name__": "guide"})
    send = Chain([Plugin(name="clamp", options={"limit": 0.5})], seed=0)
    assert send(torch.tensor([[-2.0, 0.25, 3.0]]), torch.zeros(1)).tolist() == [[-0.5, 0.25, 0.5]]


def test_every_attack_of_the_table_exists_and_every_attack_is_in_it():
    from adversary.attacks.harness.registry import ATTACKS

    table = blocks_of_attacks()
    ours = {name for name, attack in ATTACKS.all().items() if attack.__module__.startswith("adversary.")}
    assert table == ours


def blocks_of_attacks():
    text = (ROOT / "docs" / "guide.md").read_text().split("## Attacks that come with wireleak")[1].split("\n## ")[0]
    return {
        name
        for line in text.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z-]+)`", line.split("|")[1])
    }


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text()):
        assert (path.parent / link).exists(), link


def test_commands_in_the_texts_exist():
    from wireleak.cli import app

    known = {command.callback.__name__ for command in app.registered_commands}
    named = {
        word for path in TEXTS for block in blocks("console", path) for word in re.findall(r"wireleak (\w+)", block)
    }
    assert named and named <= known
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {
        word for path in TEXTS for block in blocks("console", path) for word in re.findall(r"\$ make ([a-z-]+)", block)
    }
    assert used and used <= targets
