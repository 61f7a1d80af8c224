"""`[[devices]]` in a study: mistakes, the attacks on a device's capture, and their names in results."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from wireleak.lab.devices.pi.boards import BOARDS, LINKS
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.job import attack_jobs
from wireleak.lab.run.seeds import Seeds
from wireleak.lab.steps.devices import check_devices
from wireleak.lab.steps.plan import check_attacks, make_plan
from wireleak.lab.steps.trainer import trainer_link
from wireleak.lab.study.library import load_study
from wireleak.lab.study.schema import Study, StudyError
from wireleak.lab.study.tables import Device

TINY = """
name = "tiny"
description = "a study for tests"
[data]
name = "digits"
train = 60
evaluation = 20
attacker = 40
victims = 30
[model]
name = "strided28"
[[devices]]
name = "pi"
kind = "pi"
variants = ["wide"]
[[variants]]
name = "wide"
cut = 1
[[variants]]
name = "narrow"
cut = 4
[[attacks]]
name = "inversion"
targets = ["input"]
[[attacks]]
name = "attributes"
targets = ["slant", "digit"]
"""


def declared(old: str = "", new: str = "") -> Study:
    assert old in TINY
    return Study.model_validate(tomllib.loads(TINY.replace(old, new, 1) if old else TINY))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "pi"', 'kind = "phone"', r"devices\[0\].kind: .*'pi'"),
        ('kind = "pi"', 'kind = "pi"\nboard = "pi5"', r"devices\[0\].board: .*'pi3' or 'pi4'"),
        ('kind = "pi"', 'kind = "pi"\nmemory = 64', r"devices\[0\].memory: .*256"),
        (
            'kind = "pi"',
            'kind = "pi"\nlinks = "wifi"',
            r"devices\[0\].links: .*'links'; did you mean 'link'",
        ),
        ('["wide"]', '["wid"]', r"devices.pi.variants: no variant called 'wid'; did you mean 'wide'"),
        ('["wide"]', '["wide"]\nattacks = ["invert"]', "devices.pi.attacks: .*'invert'; did you mean 'inversion'"),
        ('name = "pi"', 'name = "victim"', "devices.victim.name: is the name of the host's own device; choose another"),
        ('"narrow"', '"wide-pi"', "devices.pi.name: results of wide-pi belong to that variant; choose another"),
        ("[[devices]]", '[[devices]]\nname="pi"\nkind="pi"\n[[devices]]', "devices: two are called 'pi'; rename one"),
        (
            'kind = "pi"',
            'kind = "pi"\nrole = "train"',
            "devices.pi.board: torch was tried only on Cortex-A72",
        ),
        (
            'kind = "pi"',
            'kind = "pi"\nrole = "train"\nboard = "pi4"',
            "devices.pi.memory: 512 MiB are too few for torch and Flower; give 1024 or more",
        ),
        (
            'kind = "pi"',
            'kind = "pi"\nrole = "train"\nboard = "pi4"\nmemory = 1024\n[[devices]]\nname = "other"\nkind = "pi"\n'
            'role = "train"\nboard = "pi4"\nmemory = 1024',
            "devices.other.role: pi trains in variant wide already; give each its own variants",
        ),
        ("[model]", '[system]\nmode="federated"\n[serve]\ndevices = false\n[model]', "devices.pi: .*set it to true"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "tiny.toml"
    assert old in TINY
    path.write_text(TINY.replace(old, new, 1))
    with pytest.raises(StudyError, match=message) as error:
        load_study(str(path))
    assert "\n" not in str(error.value)


def jobs(study: Study, variant: int) -> list[tuple[str, str, str, str]]:
    cell = Cell(study, study.variants[variant], 0, Path("run"), (1, 28, 28), 2, Seeds(bytes(32)))
    return [(job.variant, job.use.name, job.target, job.out.name) for job in attack_jobs(cell)]


def test_every_attack_also_reads_the_capture_of_a_device_under_a_name_of_its_own() -> None:
    assert jobs(declared(), 0) == [
        ("wide", "inversion", "input", "inversion-input"),
        ("wide", "attributes", "slant", "attributes-slant"),
        ("wide", "attributes", "digit", "attributes-digit"),
        ("wide-pi", "inversion", "input", "inversion@pi-input"),
        ("wide-pi", "attributes", "slant", "attributes@pi-slant"),
        ("wide-pi", "attributes", "digit", "attributes@pi-digit"),
    ]
    assert {name for name, *_ in jobs(declared(), 1)} == {"narrow"}


def test_a_device_that_trains_is_the_last_client_and_serves_nothing() -> None:
    study = declared('kind = "pi"', 'kind = "pi"\nrole = "train"\nboard = "pi4"\nmemory = 1024')
    cell = Cell(study, study.variants[0], 0, Path("run"), (1, 28, 28), 2, Seeds(bytes(32)))
    assert cell.trainer == study.devices[0] and not cell.devices
    assert {name for name, *_ in jobs(study, 0)} == {"wide"}
    assert trainer_link(cell) == "train-client-2"
    other = Cell(study, study.variants[1], 0, Path("run"), (1, 28, 28), 2, Seeds(bytes(32)))
    assert other.trainer is None


def test_a_device_may_name_the_attacks_that_read_its_capture() -> None:
    named = jobs(declared('["wide"]', '["wide"]\nattacks = ["inversion"]'), 0)
    assert [one[1] for one in named if one[0] == "wide-pi"] == ["inversion"]


def test_an_attack_on_training_cannot_read_a_serving_device() -> None:
    study = declared()
    threat = {"vantage": ["gateway"], "sees": ["activation"], "knows": ["surrogate"]}
    described: dict[str, dict[str, Any]] = {
        name: {"targets": kind, "reads": reads, "mode": "federated", "threat": threat, "options": {}}
        for name, kind, reads in (("inversion", "input", "train"), ("attributes", "attribute", "serve"))
    }
    with pytest.raises(StudyError, match=r"devices.pi.attacks: inversion does not read inference traffic; list only"):
        check_attacks(make_plan(study), described)


def test_without_the_emulator_a_study_with_devices_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(StudyError, match=r"devices.pi: qemu-system-aarch64: is not installed; run make deps-system"):
        check_devices(declared())
    check_devices(declared('[[devices]]\nname = "pi"\nkind = "pi"\nvariants = ["wide"]\n', ""))


def test_every_board_and_link_of_the_schema_can_be_emulated() -> None:
    schema = Device.model_json_schema()["properties"]
    assert schema["board"]["enum"] == list(BOARDS)
    assert schema["link"]["enum"] == list(LINKS)
