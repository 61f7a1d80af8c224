"""Results as files: JSON, CSV and pictures survive the way to disk and back."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.wireleak.lab.report import synthetic
from wireleak.common.files import write_atomically
from wireleak.lab.report.boards import summarise
from wireleak.lab.run import results as r
from wireleak.lab.run.pictures import Pictures, read_pictures, write_pictures

COLUMNS = "study,variant,seed,link,vantage,attack,target,measure,value,low,high,n,role,name,incomplete"


def a_row(**changes: object) -> r.Row:
    fields = {"study": "s", "variant": "v", "seed": 0, "link": "plaintext", "vantage": "link", "attack": "inversion"}
    fields |= {"target": "input", "measure": "mse", "value": 0.01, "low": 0.009, "high": 0.011, "n": 100}
    return r.Row.model_validate(fields | changes)


def test_csv_has_the_documented_columns_and_every_row(tmp_path: Path) -> None:
    made = synthetic.results()
    made.rows.append(a_row(study='quote"comma,line\nbreak', value=math.inf, low=math.nan, high=math.nan))
    r.write_results(made, tmp_path)
    with (tmp_path / "results.csv").open(newline="") as file:
        assert file.readline().strip() == COLUMNS
        read = list(csv.reader(file))
    assert len(read) == len(made.rows)
    for cells, row in zip(read, made.rows, strict=True):
        back = r.Row.model_validate(dict(zip(COLUMNS.split(","), cells, strict=True)) | {"chance": row.chance})
        np.testing.assert_equal(back.model_dump(), row.model_dump())


def test_json_survives_with_nan_and_infinity(tmp_path: Path) -> None:
    made = synthetic.results((0,))
    made.rows.append(a_row(value=math.inf, low=math.nan, high=math.inf))
    path = r.write_results(made, tmp_path)
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    np.testing.assert_equal(r.read_results(tmp_path).model_dump(), made.model_dump())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"{", "JSON"),
        (b"{}", "study"),
        (b'{"study": "s", "created": "c", "command": "x", "rows": [{"study": 1}]}', "rows.0.study"),
        (b'{"study": "s", "created": "c", "command": "x", "schema_version": 99}', "schema_version"),
        (b'{"study": "s", "created": "c", "command": "x", "extra": 1}', "extra"),
    ],
)
def test_unreadable_results_are_one_line_that_names_the_field(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        r.read_results(tmp_path)
    assert "\n" not in str(caught.value) and "results.json" in str(caught.value)


@pytest.mark.parametrize(
    ("control", "role", "name"),
    [
        ("", "attack", ""),
        ("mean", "baseline", "mean"),
        ("made-up-by-a-user", "baseline", "made-up-by-a-user"),
        ("ridge", "reader", "ridge"),
        ("pca-32", "reader", "pca-32"),
        ("bound (unbiased only)", "bound", "unbiased only"),
        ("bound (likeliest)", "bound", "likeliest"),
        ("most exposed 5 %", "quantile", "most exposed 5 %"),
    ],
)
def test_results_of_version_1_are_read(tmp_path: Path, control: str, role: str, name: str) -> None:
    """Version 1 had one column "control" for role and name."""
    old = {key: value for key, value in a_row().model_dump(mode="json").items() if key not in ("role", "name")}
    content = {"schema_version": 1, "study": "s", "created": "c", "command": "x", "rows": [old | {"control": control}]}
    (tmp_path / "results.json").write_text(json.dumps(content))
    read = r.read_results(tmp_path)
    np.testing.assert_equal(read.rows[0].model_dump(), a_row(role=role, name=name).model_dump())
    assert read.schema_version == r.SCHEMA_VERSION


def test_pictures_survive(tmp_path: Path) -> None:
    assert read_pictures(tmp_path) == []
    x = np.random.default_rng(0).random((3, 1, 5, 4)).astype(np.float32)
    made = [Pictures("a", "plaintext", 0, "inversion", x, {"inversion": x * 0.5, "control:mean": x * 0}, ink=True)]
    made.append(Pictures("b", "tls", 1, "other/name", x[:2], {}))
    write_pictures(made, tmp_path)
    back = read_pictures(tmp_path)
    assert [(one.variant, one.link, one.seed, one.attack, one.ink) for one in back] == [
        ("a", "plaintext", 0, "inversion", True),
        ("b", "tls", 1, "other/name", False),
    ]
    np.testing.assert_equal(back[0].guesses, made[0].guesses)
    np.testing.assert_array_equal(back[1].originals, x[:2])


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut short"])
def test_damaged_pictures_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pictures.npz").write_bytes(content)
    with pytest.raises(ValueError, match="pictures"):
        read_pictures(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["results.json"] and path.read_bytes() == b"old"


def test_interval_over_seeds_is_students_t() -> None:
    values = [0.010, 0.013, 0.009]
    rows = [a_row(seed=seed, value=value, low=value - 1e-6, high=value + 1e-6) for seed, value in enumerate(values)]
    (score,) = summarise(rows)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (score.value, score.low, score.high, score.seeds) == pytest.approx((np.mean(values), low, high, 3))


def test_one_seed_keeps_its_own_interval() -> None:
    (score,) = summarise([a_row()])
    assert (score.value, score.low, score.high, score.seeds) == (0.01, 0.009, 0.011, 1)


def test_seeds_that_agree_are_no_surer_than_one_of_them() -> None:
    (score,) = summarise([a_row(seed=seed) for seed in range(3)])
    assert (score.low, score.high) == pytest.approx((0.009, 0.011))


def test_intervals_are_clipped_to_what_the_measure_can_be() -> None:
    rows = [a_row(seed=seed, measure="auc", value=value, low=0.9, high=1) for seed, value in enumerate((0.95, 1.0))]
    (score,) = summarise(rows)
    assert score.high == 1.0 and 0 <= score.low < 0.9
    exact = [
        a_row(seed=seed, measure="psnr", value=value, low=value, high=value) for seed, value in enumerate((90, 100))
    ]
    assert summarise(exact)[0].high == 100.0


def test_only_seeds_are_averaged() -> None:
    keys = ("study", "variant", "vantage", "attack", "target", "measure", "name")
    rows = [a_row(), a_row(seed=1), a_row(link="tls"), *(a_row(**{key: "other"}) for key in keys)]
    assert [score.seeds for score in summarise(rows)] == [2, *[1] * 8]


def test_missing_intervals_stay_missing() -> None:
    (score,) = summarise([a_row(low=math.nan, high=math.nan)])
    assert math.isnan(score.low) and score.interval == ""
