"""`wireleak runs`: what lies on the disk, what is removed, and which differences of two runs are shown."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from wireleak.lab.archive.comparing import Difference, differences
from wireleak.lab.archive.listing import age_text, list_runs, remove_runs
from wireleak.lab.report.formatting import size
from wireleak.lab.run.results import Results, ResultsError, Row, Task


def make_run(folder: Path, name: str = "tiny", seeds: int = 2) -> Path:
    """A run's folder with a capture of 100,000 bytes and no results."""
    (folder / "wide-seed0" / "tap").mkdir(parents=True)
    (folder / "study.toml").write_text(f'name = "{name}"')
    (folder / "plan.json").write_text(json.dumps({"study": {"name": name, "seeds": list(range(seeds))}}))
    (folder / "wide-seed0" / "tap" / "serve.pcap").write_bytes(bytes(range(250)) * 400)
    (folder / "wide-seed0" / "captured.json").write_text("{}")
    return folder


def wireleak(*arguments: object, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "wireleak", "runs", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, input=stdin)


def test_runs_are_listed_with_study_size_and_state_newest_first(tmp_path: Path) -> None:
    make_run(tmp_path / "older")
    time.sleep(0.01)
    newer = make_run(tmp_path / "newer", seeds=3)
    (newer / "results.json").write_text("{}")
    (tmp_path / "newer-latest").symlink_to("newer")
    (tmp_path / "no run").mkdir()
    first, second = list_runs(tmp_path)
    assert (first.folder.name, first.seeds, first.finished, first.captures) == ("newer", 3, True, 1)
    assert (second.folder.name, second.study, second.finished) == ("older", "tiny", False)
    assert 100_000 <= second.bytes < 130_000


def test_a_missing_folder_and_a_folder_without_runs_are_one_line(tmp_path: Path) -> None:
    missing = wireleak("list", "--in", tmp_path / "nope")
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1 and "--in: no folder" in missing.stderr
    empty = wireleak("list", "--in", tmp_path)
    assert empty.returncode == 0 and "holds no runs" in empty.stdout


def test_removing_takes_the_run_and_the_link_to_it_and_nothing_else(tmp_path: Path) -> None:
    run, other = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    (tmp_path / "tiny-latest").symlink_to("a")
    (tmp_path / "other-latest").symlink_to("b")
    done = wireleak("rm", tmp_path / "tiny-latest", "--yes")
    assert done.returncode == 0, done.stderr
    assert not run.exists() and not (tmp_path / "tiny-latest").is_symlink()
    assert other.exists() and (tmp_path / "other-latest").exists()


@pytest.mark.parametrize("answer", ["", "n\n"])
def test_nothing_is_removed_without_a_yes(tmp_path: Path, answer: str) -> None:
    run = make_run(tmp_path / "a")
    done = wireleak("rm", run, stdin=answer)
    assert done.returncode == 2 and "nothing was removed" in done.stderr
    assert (run / "study.toml").exists()


def test_no_run_is_removed_if_one_of_the_folders_is_not_a_run(tmp_path: Path) -> None:
    run, photos = make_run(tmp_path / "a"), tmp_path / "photos"
    photos.mkdir()
    with pytest.raises(ResultsError, match="photos is not a run's folder"):
        list(remove_runs([run, photos]))
    assert run.exists()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Path]:
    """A run in which a process works."""
    run = make_run(tmp_path / "busy")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(run / "config.json")])
    yield run
    process.kill()
    process.wait()


def test_a_run_under_way_is_not_removed(worker: Path) -> None:
    with pytest.raises(ResultsError, match=r"process \d+ still works in"):
        list(remove_runs([worker]))
    assert worker.exists()


def test_sizes_and_ages_have_one_unit() -> None:
    assert [size(count) for count in (0, 999, 1500, 1.9e9, 2e13)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "1.9 GB",
        "20000 GB",
    ]
    assert [age_text(0.0, now) for now in (-5.0, 30.0, 90.0, 7200.0, 3 * 86400.0)] == [
        "now",
        "now",
        "2 min",
        "2 h",
        "3 d",
    ]


def results(values: Sequence[float], accuracy: float = 0.9, **changes: str) -> Results:
    """Results with one AUC a seed, each known to .05."""
    fields = {"study": "s", "variant": "wide", "link": "plaintext", "vantage": "eavesdropper", "attack": "attributes"}
    fields |= {"target": "slant", "measure": "auc"} | changes
    rows = [
        Row.model_validate(fields | {"seed": k, "value": one, "low": one - 0.05, "high": one + 0.05, "n": 100})
        for k, one in enumerate(values)
    ]
    tasks = [Task(variant="wide", seed=k, value=accuracy, n=100, rounds=1) for k in range(len(values))]
    return Results(study="s", created="2026-01-01", command="", rows=rows, tasks=tasks)


def slant(found: Sequence[Difference]) -> Difference:
    return next(one for one in found if one.target == "slant")


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        # Paired: each seed moves by .03, far less than the seeds differ.
        ((0.6, 0.7, 0.8), (0.57, 0.671, 0.769), "A leaks more"),
        ((0.57, 0.671, 0.769), (0.6, 0.7, 0.8), "B leaks more"),
        ((0.6, 0.7, 0.8), (0.7, 0.6, 0.81), "not resolved"),
        # Two seeds: the intervals must not overlap.
        ((0.9,), (0.7,), "A leaks more"),
        ((0.75,), (0.7,), "not resolved"),
    ],
)
def test_a_difference_is_shown_only_where_the_seeds_resolve_it(
    first: Sequence[float], second: Sequence[float], verdict: str
) -> None:
    assert slant(differences(results(first), results(second))).verdict == verdict


def test_the_interval_is_student_s_t_of_the_paired_differences() -> None:
    from scipy.stats import ttest_rel

    first, second = (0.6, 0.7, 0.8), (0.5, 0.66, 0.77)
    found = slant(differences(results(first), results(second)))
    expected = ttest_rel(first, second).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_the_main_task_is_compared_too_and_a_score_of_one_run_only_is_named() -> None:
    found = differences(results((0.6, 0.7, 0.8)), results((0.6, 0.7, 0.8), target="thickness"))
    assert [(one.target, one.verdict) for one in found] == [
        ("main task", "not resolved"),
        ("slant", "only in A"),
        ("thickness", "only in B"),
    ]


def test_the_command_compares_two_runs_within_80_columns(tmp_path: Path) -> None:
    for name, values in (("a", (0.6, 0.7, 0.8)), ("b", (0.5, 0.61, 0.69))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(results(values).model_dump_json())
    done = wireleak("compare", tmp_path / "a", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "0.700" in done.stdout and "0.600" in done.stdout and "A leaks more" in done.stdout
    (row,) = [
        one for one in json.loads(wireleak("compare", tmp_path / "a", tmp_path / "b", "--json").stdout) if one["attack"]
    ]
    assert row["a"] == pytest.approx(0.7) and row["verdict"] == "A leaks more"
