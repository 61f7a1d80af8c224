from pathlib import Path
from typing import Any

import pytest

from wireleak.lab.study.library import load_study, study_files
from wireleak.lab.study.schema import Study, StudyError
from wireleak.lab.study.sweep import with_sweeps

SWEEP = """
[[sweeps]]
name = "dropout"
values = [0.25, 0.5]
title = "drops {value} of them"
cut = 4
defence = "dropout"
transforms = [{ name = "dropout", options = { rate = "{value}" } }]
"""


def _load(tmp_path: Path, text: Any) -> Study:
    path = tmp_path / "tiny.toml"
    path.write_text(study_files()["digits"].read_text() + text)
    return load_study(str(path))[0]


def test_a_sweep_stands_for_a_variant_at_each_value(tmp_path: Path) -> None:
    study = _load(tmp_path, SWEEP)
    assert [variant.name for variant in study.variants[3:]] == ["dropout-0-25", "dropout-0-5"]
    written = {"cut": 4, "defence": "dropout", "title": "drops 0.5 of them"}
    by_hand = written | {"strength": 0.5, "transforms": [{"name": "dropout", "options": {"rate": 0.5}}]}
    assert study.variants[-1] == type(study.variants[-1]).model_validate({"name": "dropout-0-5"} | by_hand)
    # A number stays one: 1 bit is not "1".
    (one,) = with_sweeps({"sweeps": [{"name": "q", "values": [1], "options": {"bits": "{value}"}}]})["variants"]
    assert one == {"name": "q-1", "strength": 1, "options": {"bits": 1}}


def test_attacks_can_name_a_sweeps_variants(tmp_path: Path) -> None:
    attack = '[[attacks]]\nname = "attributes"\nlabel = "again"\ntargets = ["slant"]\nvariants = ["dropout-0-5"]\n'
    study = _load(tmp_path, SWEEP + attack)
    on = {variant.name: [use.shown for use in study.attacks_on(variant)] for variant in study.variants}
    assert on["dropout-0-5"] == [*on["dropout-0-25"], "again"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("values = [0.25, 0.5]", "", r"sweeps\[0\].values: is None; give a list of numbers"),
        ("values = [0.25, 0.5]", "values = []", r"sweeps\[0\].values: is \[\]; give a list of numbers"),
        ("values = [0.25, 0.5]", 'values = ["a"]', r"sweeps\[0\].values: is \['a'\]; give a list of numbers"),
        ("values = [0.25, 0.5]", "values = [0.5, 0.5]", "variants: two are called 'dropout-0-5'; rename one"),
        ('name = "dropout"\nvalues', "values", r"sweeps\[0\].name: is missing"),
        ("{value}", "0.5", r'sweeps\[0\]: "{value}" occurs nowhere'),
        ("[[sweeps]]", "[sweeps]", r"sweeps: is not a list of tables; write each sweep as \[\[sweeps\]\]"),
        ("cut = 4\ndefence", "cutt = 4\ndefence", r"variants\[3\].cutt: no key called 'cutt'"),
    ],
)
def test_a_mistake_in_a_sweep_is_one_line_that_names_the_field(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in SWEEP
    with pytest.raises(StudyError, match=message) as error:
        _load(tmp_path, SWEEP.replace(old, new))
    assert "\n" not in str(error.value)
