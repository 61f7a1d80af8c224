"""What stays of a cell's captures after its attacks."""

import gzip
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wireleak.common.files import files_below, write_json
from wireleak.lab.archive.listing import read_run
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.job import attack_jobs
from wireleak.lab.run.kept import Kept, capture_for, drop_training, kept_captures, settle_captures, space_needed
from wireleak.lab.run.seeds import Seeds
from wireleak.lab.study.library import load_study
from wireleak.lab.study.schema import StudyError
from wireleak.lab.study.tables import Tap

LINKS = ("fleet-client-0", "serve-attacker", "serve-victim", "train-client-0", "untrained-serve-attacker")


def make_cell(folder: Path, **tap: Any) -> Cell:
    """A cell with captures of 10,000 equal bytes."""
    study, _ = load_study("digits")
    study = study.model_copy(update={"tap": Tap(**tap)})
    cell = Cell(study, study.variants[0], 0, folder, (1, 28, 28), 2, Seeds(bytes(32)))
    guesses = [job.guesses for job in attack_jobs(cell)]
    for path in (*map(cell.capture, LINKS), cell.tensors("victim"), *guesses):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 10_000)
    return cell


def names(cell: Cell) -> list[str]:
    return [path.name for path in cell.captures()]


def test_all_captures_stay_as_recorded_by_default(tmp_path: Path) -> None:
    cell = make_cell(tmp_path)
    settle_captures(cell)
    assert names(cell) == [f"{link}.pcap" for link in LINKS] and kept_captures(cell) == []
    assert not cell.tensors("victim").exists()


def test_training_and_the_untrained_encoder_are_dropped_and_the_rest_is_compressed(tmp_path: Path) -> None:
    cell = make_cell(tmp_path, keep="serving", compress=True)
    drop_training(cell)
    assert "train-client-0.pcap" not in names(cell) and len(names(cell)) == 4
    settle_captures(cell)
    settle_captures(cell)  # a resumed run does it again
    assert names(cell) == [f"{link}.pcap.gz" for link in LINKS[:3]]
    assert gzip.decompress(cell.capture("serve-victim").read_bytes()) == b"x" * 10_000
    record = {one.link: one for one in kept_captures(cell)}
    assert set(record) == set(LINKS) and {one.recorded for one in record.values()} == {10_000}
    assert record["train-client-0"] == Kept("train-client-0", 10_000, 0)
    assert record["serve-victim"].kept == cell.capture("serve-victim").stat().st_size


def test_nothing_changes_before_every_attack_has_its_guesses(tmp_path: Path) -> None:
    cell = make_cell(tmp_path, keep="serving", compress=True)
    last = attack_jobs(cell)[-1].guesses
    last.unlink()
    settle_captures(cell)
    assert len(names(cell)) == len(LINKS) and kept_captures(cell) == []
    last.touch()
    settle_captures(cell)
    assert len(names(cell)) == 3


def test_an_attack_that_needs_a_dropped_capture_is_told_so_in_one_line(tmp_path: Path) -> None:
    cell = make_cell(tmp_path, keep="serving")
    settle_captures(cell)
    assert capture_for(cell, "serve-victim") == cell.capture("serve-victim")
    with pytest.raises(StudyError, match=r"train-client-0 was dropped .* run again with --resume") as refusal:
        capture_for(cell, "train-client-0")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("before", "now"), [(True, "all"), (False, "serving")])
def test_the_field_of_earlier_versions_is_still_read(before: bool, now: str) -> None:
    assert Tap.model_validate({"keep_training": before}).keep == now


def test_the_listed_size_is_that_of_du(tmp_path: Path) -> None:
    cell = make_cell(tmp_path)
    (cell.folder / "second").hardlink_to(cell.capture("serve-victim"))
    used = int(subprocess.check_output(["du", "-s", "--block-size=1", str(tmp_path)], text=True).split()[0])
    folders = sum(path.lstat().st_blocks * 512 for path in (tmp_path, *tmp_path.rglob("*")) if path.is_dir())
    assert read_run(tmp_path).bytes == used - folders


def test_the_space_still_needed_is_that_of_captured_cells_of_the_same_variant(tmp_path: Path) -> None:
    cell = make_cell(tmp_path)
    first, second = cell.study.variants[:2]
    cells = [replace(cell, variant=variant, seed=seed) for variant in (first, second) for seed in (0, 1, 2)]
    assert space_needed(cells) == 0  # nothing is known yet
    for index, captures in ((0, 1), (1, 9), (3, 2)):
        path = write_json(cells[index].done, {}).with_name("capture")
        path.write_bytes(b"x" * 100_000 * captures)
    sizes = [sum(size for size, _ in files_below(cells[index].folder)) for index in (0, 3)]
    assert sizes[0] > 100_000 and sizes[1] > 200_000
    # One cell of the first variant is missing, and two of the second. Of a third, nothing is captured: their mean.
    assert space_needed(cells) == sizes[0] + 2 * sizes[1]
    other = replace(cell, variant=first.model_copy(update={"name": "other"}))
    assert space_needed([*cells, other]) == sizes[0] + 2 * sizes[1] + sum(sizes) / 2
