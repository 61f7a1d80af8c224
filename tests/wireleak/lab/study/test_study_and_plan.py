import errno
import re
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wireleak.lab.data import DataError, find_overlap
from wireleak.lab.launch.processes import Launcher
from wireleak.lab.steps.attack import check_plugins
from wireleak.lab.steps.deal import write_cell
from wireleak.lab.steps.plan import check_attacks, make_plan, open_folder
from wireleak.lab.study.library import load_study, study_files
from wireleak.lab.study.schema import StudyError

MINIMAL = """
name = "tiny"
description = "a study for tests"
seeds = [0, 1]
[data]
name = "digits"
clients = 2
train = 60
evaluation = 20
attacker = 40
victims = 30
[model]
name = "strided28"
[serve]
copies = 2
[[variants]]
name = "wide"
cut = 1
[[variants]]
name = "sealed"
cut = 4
link = "tls"
seeds = [1]
[[attacks]]
name = "inversion"
targets = ["input"]
[[attacks]]
name = "attributes"
targets = ["slant"]
variants = ["wide"]
"""
DESCRIBED = {
    "inversion": {
        "targets": "input",
        "reads": "serve",
        "mode": "federated",
        "threat": {"vantage": ["gateway"], "sees": ["activation"], "knows": ["surrogate", "queries"]},
        "options": {"properties": {"epochs": {}}},
    },
    "attributes": {
        "targets": "attribute",
        "reads": "serve",
        "mode": "federated",
        "threat": {"vantage": ["gateway"], "sees": ["activation"], "knows": ["surrogate"]},
        "options": {"properties": {}},
    },
}


@pytest.fixture
def study_file(tmp_path: Path) -> Any:
    def write(old: Any = "", new: Any = "") -> str:
        assert not old or old in MINIMAL
        path = tmp_path / "tiny.toml"
        path.write_text(MINIMAL.replace(old, new) if old else MINIMAL)
        return str(path)

    return write


@pytest.mark.parametrize("name", study_files())
def test_every_study_that_comes_with_wireleak_is_valid_and_named_as_its_file(name: Any) -> None:
    study, path = load_study(name)
    assert study.name == name == path.stem
    assert path.parent.parent == resources.files("wireleak.lab.study.library")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cut = 1", "", r"variants.wide.cut: is missing"),
        ("cut = 1", 'cut = 1\nagainst = "seald"', r"variants.wide.against: .*'seald'.*sealed"),
        ("cut = 1", 'cut = 1\nagainst = "wide"', r"variants.wide.against: .*'wide'"),
        ("cut = 1", "cut = 1\ncutt = 2", r"variants\[0\].cutt: no key called 'cutt'"),
        ("cut = 1", "cut = -1", r"variants\[0\].cut: .*greater than 0"),
        ("train = 60", 'train = "many"', "data.train: .*integer"),
        ('name = "sealed"', 'name = "wide"', "variants: two are called 'wide'; rename one"),
        (
            'variants = ["wide"]',
            'variants = ["wid"]',
            r"no variant called 'wid'; did you mean 'wide'\? Choose one of wide, sealed",
        ),
        (
            "clients = 2",
            'clients = 2\npartition = "by_attribute"',
            'data.by: is missing; partition = "by_attribute" needs',
        ),
        ("[model]", "[model", "is not TOML"),
        (
            "[serve]",
            '[threat]\nvantage = "sever"\n[serve]',
            "threat.vantage: .*'sever'; did you mean 'server'",
        ),
        ("[serve]", '[threat]\nknows = ["weight"]\n[serve]', r"threat.knows\[0\]: .*did you mean 'weights'"),
        (
            "seeds = [0, 1]",
            'published = [{variant = "wide", attack = "rmle", measure = "mse", value = 1, source = "s"}]',
            "published: no attack called 'rmle'; choose one of attributes, inversion .the attacks on variant wide.",
        ),
        ('targets = ["slant"]', 'targets = ["slant", "slant"]', "runs twice on target slant of variant wide; give one"),
        ("cut = 1", "cut = 1\nprivacy = {noise_multiplier = 0.0}", "0 adds no noise, so there is no eps"),
        ("cut = 1", 'cut = 1\nmode = "federated"\nserver = "hijack"', "variants.wide.mode: a hijacking server .*split"),
        (
            "cut = 1",
            'cut = 1\nparticipant = { name = "honest" }\ntransforms = [{ name = "noise" }]',
            "variants.wide.participant: in split mode it imitates clients that train an encoder on the task; remove",
        ),
        ("cut = 1", 'cut = 1\nengine = "in-process"', 'variants.wide.engine: "in-process" has no links; set mode'),
        ("clients = 2", 'clients = 2\noverlap = ["victims"]\ndisjoint_by = "drawer"', "data.overlap: contradicts"),
    ],
)
def test_a_mistake_in_the_toml_is_one_line_that_names_the_field(
    study_file: Any, old: str, new: str, message: str
) -> None:
    with pytest.raises(StudyError, match=message) as error:
        load_study(study_file(old, new))
    assert "\n" not in str(error.value)


def test_an_unknown_study_lists_the_known() -> None:
    listed = "no study or file called 'nope'; choose one of active-author, active-faces, active-noticed"
    with pytest.raises(StudyError, match=re.escape(listed)):
        load_study("nope")


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ('name = "digits"', 'name = "letters"', DataError, "no data set called 'letters'; choose one of .*digits"),
        ('name = "strided28"', 'name = "resnet"', StudyError, "model.name: .*no network called 'resnet'"),
        ('name = "strided28"', 'name = "conv1d"', StudyError, "model.name: .*conv1d takes inputs"),
        ("cut = 4", "cut = 9", StudyError, "variants.sealed.cut: strided28 has no cut 9; choose 1 to 4"),
        ("train = 60", "train = 6000", DataError, "data.train: 6000 examples are more"),
    ],
)
def test_what_the_data_and_the_network_do_not_allow_is_refused(
    study_file: Any, old: str, new: str, error: Any, message: str
) -> None:
    study, _ = load_study(study_file(old, new))
    with pytest.raises(error, match=message):
        make_plan(study)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'name = "inversion"',
            'name = "mindreading"',
            "no attack called 'mindreading'; choose one of attributes, inversion",
        ),
        ("[serve]", '[threat]\nknows = ["surrogate"]\n[serve]', "needs 'queries', which threat.knows does not grant"),
        ("[serve]", '[threat]\nsees = ["sizes-and-times"]\n[serve]', "needs 'activation', which threat.sees"),
        ("[serve]", '[threat]\nvantage = "release"\n[serve]', "works from gateway, but its vantage is release"),
        (
            'targets = ["slant"]',
            'targets = ["weight"]',
            "no attribute called 'weight'; choose one of digit, slant, thickness",
        ),
        ('targets = ["slant"]', 'targets = ["input"]', "the attack guesses attributes, not 'input'"),
        ('targets = ["input"]', 'targets = ["slant"]', "the attack guesses the input, not 'slant'"),
        ('targets = ["input"]', 'targets = ["input"]\noptions = {luck = 3}', "options.luck: no option called 'luck'"),
    ],
)
def test_an_attack_gets_no_more_than_its_threat_model_grants(study_file: Any, old: str, new: str, message: str) -> None:
    study, _ = load_study(study_file(old, new))
    with pytest.raises(StudyError, match=message):
        check_attacks(make_plan(study), DESCRIBED)


def test_an_attacks_options_are_asked_of_the_adversary_before_anything_is_captured(study_file: Any) -> None:
    wrong, _ = load_study(study_file('targets = ["input"]', 'targets = ["input"]\noptions = {epochs = 0}'))
    right, _ = load_study(study_file())
    with Launcher() as launcher:
        check_plugins(right, launcher)
        with pytest.raises(StudyError, match=r"^attacks\[\d\]\.options\.epochs: Input should be greater than or equal"):
            check_plugins(wrong, launcher)


def test_each_party_gets_its_own_and_nothing_is_shared(study_file: Any, tmp_path: Path) -> None:
    study, _ = load_study(study_file())
    plan = make_plan(study)
    check_attacks(plan, DESCRIBED)
    cells = plan.cells(tmp_path)
    assert [cell.name for cell in cells] == ["wide-seed0", "wide-seed1", "sealed-seed1"]
    wide, _, sealed = cells
    write_cell(plan, wide)
    write_cell(plan, sealed)
    files = {
        **{name: wide.folder / name / "train.npz" for name in wide.clients},
        "evaluation": wide.folder / "client-0" / "evaluation.npz",
        "victims": wide.device("victim") / "inputs.npz",
        "attacker": wide.device("attacker") / "inputs.npz",
    }
    held = {name: np.load(path)["x"] for name, path in files.items()}
    names = list(held)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            assert find_overlap(held[one], held[other]).count == 0, (one, other)
    assert sum(len(held[name]) for name in wide.clients) == 60
    # Two changed copies of each surrogate under plaintext; none where nothing could be paired with them.
    surrogate = np.load(wide.surrogate)
    assert len(surrogate["x"]) == 120 and surrogate["augmented"].sum() == 80
    assert not np.array_equal(surrogate["x"][:40], surrogate["x"][40:80])
    assert np.array_equal(surrogate["attribute:slant"][:40], surrogate["attribute:slant"][40:80])
    assert len(np.load(sealed.surrogate)["x"]) == 40
    # The truth lies in the ledger alone.
    assert np.load(files["victims"]).files == ["x"]
    assert set(np.load(wide.ledger).files) >= {"x", "y", "attribute:slant"}


def test_a_seed_count_from_the_command_line_replaces_every_variants_own(study_file: Any) -> None:
    study, _ = load_study(study_file())
    plan = make_plan(study, seeds=1)
    assert {seed for variant in plan.study.variants for seed in plan.study.seeds_of(variant)} == {0}


def test_an_attribute_can_be_the_task_and_the_task_an_attribute(study_file: Any) -> None:
    study, _ = load_study(study_file('name = "digits"', 'name = "digits"\ntask = "digit"'))
    plan = make_plan(study)
    parity = plan.dataset.attributes["parity"].values
    assert (plan.dataset.task, len(plan.dataset.classes)) == ("digit", 10)
    assert "digit" not in plan.dataset.attributes and np.array_equal(plan.dataset.y % 2, parity)


def test_an_overlap_is_refused_unless_it_is_asked_for_and_then_it_is_counted(study_file: Any) -> None:
    study, _ = load_study(study_file("victims = 30", 'victims = 4000\noverlap = ["victims"]'))
    plan = make_plan(study)
    counts = plan.first.overlaps
    victims, attacker = (plan.dataset.x[getattr(plan.first.roles, role)] for role in ("victims", "attacker"))
    assert counts["victims and attacker"] == find_overlap(attacker, victims).count > 0
    assert counts == plan.summary()["overlaps"]["wide-seed0"]


def test_an_attribute_with_one_class_is_refused(study_file: Any) -> None:
    study, _ = load_study(study_file("victims = 30", "victims = 1"))
    with pytest.raises(StudyError, match="slant has one class among the victims of seed 0"):
        check_attacks(make_plan(study), DESCRIBED)


def test_noise_queries_have_the_spread_of_the_data_and_the_range_stays_public(study_file: Any, tmp_path: Path) -> None:
    study, _ = load_study(study_file("cut = 1", 'cut = 1\nqueries = "noise"'))
    plan = make_plan(study)
    cell = plan.cells(tmp_path)[0]
    write_cell(plan, cell)
    with np.load(cell.surrogate) as granted:
        own = plan.dataset.x[plan.first.roles.attacker]
        sent = granted["x"][~granted["augmented"]]
        assert not find_overlap(own, sent).count
        assert abs(sent.mean() - own.mean()) < 0.01 and abs(sent.std() - own.std()) < 0.01
        assert granted["range"].tolist() == [0, 1]


@pytest.mark.parametrize(("resumed", "option"), [(False, "--out"), (True, "--resume")])
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, resumed: bool, option: str) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    source = tmp_path / "study.toml"
    source.write_text("")
    plan: Any = SimpleNamespace(
        study=SimpleNamespace(name="full"), seeds=SimpleNamespace(write=refuse), cells=lambda folder: []
    )
    with pytest.raises(StudyError) as error:
        open_folder(plan, tmp_path, source, tmp_path if resumed else None)
    said = f"{option}: {tmp_path} cannot be written: No space left on device; free space, or change its rights"
    assert str(error.value) == said
    assert sorted(tmp_path.iterdir()) == [source], "a folder of a run that never began"
