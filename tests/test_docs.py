"""The documents: their examples run, their links lead somewhere, their tables agree with the code."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wireleak.lab.run.results import Results, Row, write_results
from wireleak.lab.steps.plan import make_plan
from wireleak.lab.study.schema import Study

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TEXTS = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
HOW_TO = DOCS / "how-to"


def blocks(language: Any, path: Any) -> Any:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


def example_study() -> dict[str, Any]:
    return tomllib.loads(blocks("toml", HOW_TO / "study.md")[0])


def test_the_example_study_can_run() -> None:
    plan = make_plan(Study.model_validate(example_study()))
    assert plan.parts(plan.first)["victims"] == 300


def test_the_example_sweep_can_run() -> None:
    sweep = tomllib.loads(blocks("toml", HOW_TO / "study.md")[1])
    plan = make_plan(Study.model_validate(example_study() | sweep))
    assert [variant.name for variant in plan.study.variants][2:] == ["noise-0-5", "noise-1", "noise-2"]


def test_the_example_of_federated_training_can_run() -> None:
    """The page shows the keys that differ from the study in split mode."""
    study, changes = example_study(), tomllib.loads(blocks("toml", HOW_TO / "federated.md")[0])
    study["data"] |= changes["data"]
    study |= {"system": changes["system"], "variants": changes["variants"], "attacks": []}
    study["data"]["clients"] = 4
    study["serve"] = {"devices": False}
    plan = make_plan(Study.model_validate(study))
    (variant,) = plan.study.variants
    assert plan.study.plan_of(variant).epochs == 5 and len(plan.first.streams) == 8


def test_the_example_of_tls_can_run() -> None:
    variant, attack = (tomllib.loads(text) for text in blocks("toml", HOW_TO / "tls.md"))
    plan = make_plan(Study.model_validate(example_study() | variant | attack))
    assert plan.study.variants[0].link == "tls" and plan.study.attacks[0].name == "sizes"


def test_the_example_of_a_folder_of_images_is_a_study() -> None:
    study = example_study() | tomllib.loads(blocks("toml", HOW_TO / "data.md")[0])
    options = Study.model_validate(study).data.options
    assert set(options) == {"path", "csv", "task", "size"}


def test_the_example_data_set_can_be_dealt() -> None:
    """In a process of its own, so that no other test finds it."""
    (code,) = blocks("python", HOW_TO / "data.md")
    study = example_study()
    study["data"]["name"] = "stripes"
    study["attacks"][1]["targets"] = ["width"]
    code += (
        "\nfrom wireleak.lab.steps.plan import make_plan\nfrom wireleak.lab.study.schema import Study\n"
        f"plan = make_plan(Study.model_validate({study!r}))\nprint(plan.parts(plan.first))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "'victims': 300" in done.stdout


def test_the_example_attack_registers_fits_and_guesses(installed: Any) -> None:
    from adversary.attacks.harness.activation_attack import ActivationAttack
    from adversary.attacks.harness.knowledge import Knowledge
    from adversary.attacks.harness.registry import ATTACKS

    code = next(block for block in blocks("python", HOW_TO / "attack.md") if "class NearestMean" in block)
    installed(ATTACKS, code, **{"nearest-mean": "outside:NearestMean"})
    attack = ATTACKS.get("nearest-mean")
    rng = np.random.default_rng(0)
    inputs = rng.random((50, 1, 4, 4), dtype=np.float32)
    labels = np.zeros(50, np.int64)
    known = Knowledge(inputs.reshape(50, 16), inputs, labels, None, 0, np.zeros(50, bool), 0)
    made = attack(attack.options(neighbours=1), 0)
    assert isinstance(made, ActivationAttack)
    made.fit(known)
    assert np.array_equal(made.guess(inputs.reshape(50, 16)[:5]), inputs[:5])


def test_the_example_target_is_guessed_and_scored(tmp_path: Path) -> None:
    """In a process of its own, so that no other test finds it."""
    target, attack = blocks("python", HOW_TO / "target.md")
    (tmp_path / "brightness.py").write_text(target)
    (tmp_path / "read_brightness.py").write_text(attack)
    check = """
import numpy as np
from read_brightness import ReadBrightness
from adversary.attacks.harness.knowledge import Knowledge
from brightness import Brightness
from wireleak.common.targets.registry import register, target_of

rng = np.random.default_rng(0)
own, victims = (rng.random((n, 1, 4, 4), dtype=np.float32) * rng.random((n, 1, 1, 1)) for n in (300, 200))
class Own:
    inputs = own
class Sealed:
    federated, seed = False, 0
    def victims(self, array): return victims
    def surrogate(self, array): return own
register(Brightness)
target = target_of("brightness")
made = ReadBrightness(ReadBrightness.options(), 0)
made.fit(Knowledge(own.reshape(300, 16), own, np.zeros(300, np.int64), None, 0, np.zeros(300, bool), 0))
guesses = {"": made.guess(victims.reshape(200, 16)), "majority": np.repeat(target.prior(Own()), 200, 0)}
rows = target.score(guesses, target.ground_truth(Sealed()), 0)
scored = {(one.guess, one.score.measure): one.score.value for one in rows}
assert scored["", "auc"] > 0.95 and scored["majority", "auc"] == 0.5, scored
"""
    done = subprocess.run(
        [sys.executable, "-c", check],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )
    assert done.returncode == 0, done.stderr


def test_the_example_transform_registers_and_clamps(installed: Any) -> None:
    import torch

    from client.transforms.chain import Chain
    from client.transforms.registry import TRANSFORMS
    from wireleak.common.config import Plugin

    code = next(block for block in blocks("python", HOW_TO / "defence.md") if "class Clamp" in block)
    installed(TRANSFORMS, code, clamp="outside:Clamp")
    send = Chain([Plugin(name="clamp", options={"limit": 0.5})], seed=0)
    assert send(torch.tensor([[-2.0, 0.25, 3.0]]), torch.zeros(1)).tolist() == [[-0.5, 0.25, 0.5]]


@pytest.mark.parametrize(("auc", "status"), [(0.55, 0), (0.91, 1)])
def test_the_example_for_ci_fails_above_the_limit(tmp_path: Path, auc: float, status: int) -> None:
    (code,) = blocks("python", HOW_TO / "ci.md")
    row = {"study": "s", "variant": "cut2", "seed": 0, "link": "plaintext", "vantage": "gateway", "target": "slant"}
    row |= {"attack": "attributes", "measure": "auc", "n": 100}
    rows = [Row(**row, value=auc), Row(**row, value=0.99, role="reader", name="untrained")]
    write_results(Results(study="s", created="2026-11-28T00:00:00", command="wireleak run s", rows=rows), tmp_path)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, "")
    assert f"attributes on slant at cut2: AUC {auc:.3f}, limit 0.6" in done.stdout


def test_every_attack_of_the_table_exists_and_every_attack_is_in_it() -> None:
    from adversary.attacks.harness.registry import ATTACKS

    ours = {name for name, attack in ATTACKS.all().items() if attack.__module__.startswith("adversary.")}
    assert names_in_tables(HOW_TO / "choose-an-attack.md") == ours


def names_in_tables(path: Any) -> Any:
    return {
        name
        for line in path.read_text().splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z-]+)`", line.split("|")[1])
    }


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_anchors_lead_somewhere(path: Any) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", path.read_text()):
        file, _, anchor = link.partition("#")
        target = (path.parent / file) if file else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(path: Any) -> Any:
    """The anchors that a page's headings get, as GitHub makes them."""
    prose = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_names_a_file_that_only_the_authors_have(path: Any) -> None:
    assert not re.search(r"\.\./shared|methods\.md|anchors\.md", path.read_text())


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_of_the_package_in_examples_are_public(path: Any) -> None:
    import wireleak

    code = "\n".join(blocks("python", path))
    named = set(re.findall(r"\bwireleak\.(\w+)\(", code))
    for names in re.findall(r"^from wireleak import (.+)$", code, re.MULTILINE):
        named |= set(names.split(", "))
    assert named <= set(dir(wireleak))


def test_the_readme_is_short_and_names_the_commands_of_make() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) < 90
    assert "make sim" in text and "make test" in text


def test_commands_in_the_texts_exist() -> None:
    from wireleak.cli import app

    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {str(group.name) for group in app.registered_groups}
    named = {
        word for path in TEXTS for block in blocks("console", path) for word in re.findall(r"\$ wireleak (\w+)", block)
    }
    assert named and named <= known
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {
        word for path in TEXTS for block in blocks("console", path) for word in re.findall(r"\$ make ([a-z-]+)", block)
    }
    assert used and used <= targets


def test_the_tables_of_the_results_are_those_of_the_csv_files() -> None:
    """`python docs/make_results.py` without a run would change nothing."""
    pages = (DOCS / "results.md", DOCS / "results" / "README.md")
    check = (
        "import sys, headlines, pathlib\n"
        "written = {}\n"
        "pathlib.Path.write_text = lambda path, text: written.__setitem__(path.name, text)\n"
        "headlines.main()\n"
        "for page in map(pathlib.Path, sys.argv[1:]):\n"
        "    assert written[page.name] == page.read_text(), f'{page} is not fresh: run python docs/make_results.py'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", check, *map(str, pages)], cwd=DOCS, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_every_study_has_results_and_a_section() -> None:
    from wireleak.lab.study.library import study_files

    text = (DOCS / "results.md").read_text()
    for name, path in study_files().items():
        _, found, section = text.partition(f"\n### {name}\n")
        assert found, name
        finished = (DOCS / "results" / path.parent.name / f"{name}.csv").exists()
        assert finished or "Not run yet" in section.partition("\n### ")[0], name
