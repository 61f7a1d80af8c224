"""MotionSense from tiny originals that the tests write, and from the packed file where it is at hand."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wireleak.lab import data


def write_motionsense(folder: Path, samples: int = 300) -> np.ndarray:
    base = folder / "motionsense"
    base.mkdir(parents=True)
    (base / "data_subjects_info.csv").write_text("code,weight,height,age,gender\n1,102,188,46,1\n2,72,180,28,0\n")
    header = (
        ",attitude.roll,attitude.pitch,attitude.yaw,gravity.x,gravity.y,gravity.z,rotationRate.x,rotationRate.y,"
        "rotationRate.z,userAcceleration.x,userAcceleration.y,userAcceleration.z\n"
    )
    rng = np.random.default_rng(2)
    table = rng.normal(size=(samples, 12))
    for activity in ("dws_1", "sit_13"):
        for subject in (1, 2):
            path = base / "A_DeviceMotion_data" / activity / f"sub_{subject}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(header + "\n".join(f"{i}," + ",".join(map(repr, r.tolist())) for i, r in enumerate(table)))
    return table


@pytest.mark.parametrize("zipped", [False, True])
def test_motionsense_from_the_authors_files(zipped: bool, tmp_path: Path) -> None:
    table = write_motionsense(tmp_path)
    base = tmp_path / "motionsense"
    if zipped:
        with zipfile.ZipFile(base / "A_DeviceMotion_data.zip", "w") as archive:
            for path in (base / "A_DeviceMotion_data").rglob("*.csv"):
                archive.write(path, path.relative_to(base))
        (base / "A_DeviceMotion_data").rename(tmp_path / "aside")
    motion = data.load("motionsense", tmp_path)
    assert motion.x.shape == (8, 6, 128)  # two whole windows of each of four recordings of 300 samples
    assert motion.y.tolist() == [0] * 4 + [4] * 4
    assert motion.groups["subject"].tolist() == [1, 1, 2, 2] * 2
    assert motion.groups["trial"].tolist() == [1] * 4 + [13] * 4
    assert motion.attribute("gender").values.tolist() == [1, 1, 0, 0] * 2
    np.testing.assert_allclose(motion.x[1, :3].T, table[128:256, 9:12], rtol=1e-6)
    np.testing.assert_allclose(motion.x[1, 3:].T, table[128:256, 6:9], rtol=1e-6)


def test_motionsense_reports_what_is_wrong(tmp_path: Path) -> None:
    write_motionsense(tmp_path)
    base = tmp_path / "motionsense"
    recording = base / "A_DeviceMotion_data" / "sit_13" / "sub_2.csv"
    good = recording.read_text()
    recording.write_text(good.replace("rotationRate.y", "spin"))
    with pytest.raises(data.DataError, match=r"sub_2.csv has no column rotationRate.y"):
        data.load("motionsense", tmp_path)
    recording.write_text(good + "\n300," + ",".join(["oops"] * 12))
    with pytest.raises(data.DataError, match="holds a value that is not a number"):
        data.load("motionsense", tmp_path)
    recording.rename(recording.with_name("sub_9.csv"))
    with pytest.raises(data.DataError, match="subject 9"):
        data.load("motionsense", tmp_path)


def test_motionsense_packed(packed: Any) -> None:
    motion = data.load("motionsense", packed("motionsense.npz"))
    assert motion.x.shape == (10854, 6, 128) and motion.x.dtype == np.float32
    assert sorted(set(motion.groups["subject"].tolist())) == list(range(1, 25))
    for subject in range(1, 25):  # one person, one gender
        assert len(set(motion.attribute("gender").values[motion.groups["subject"] == subject].tolist())) == 1


def test_the_environment_variable_finds_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_motionsense(tmp_path)
    monkeypatch.setenv("WIRELEAK_DATA", str(tmp_path))
    assert len(data.load("motionsense")) == 8
