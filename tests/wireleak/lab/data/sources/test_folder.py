"""A user's folder of images with a CSV of attributes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wireleak.lab import data


def write_folder(folder: Path) -> None:
    for index in range(4):
        Image.new("RGB", (20, 10), (60 * index, 0, 255)).save(folder / f"{index}.png")
    (folder / "labels.csv").write_text(
        "file,kind,wears_hat,person,note\n0.png,cat,no,ann,p\n1.png,dog,yes,ann,q\n2.png,cat,yes,bob,r\n3.png,dog,no,cy,s\n"
    )


def test_a_folder_of_images(tmp_path: Path) -> None:
    write_folder(tmp_path)
    own = data.load("folder", path=str(tmp_path), task="kind", groups=["person"], size=16, grey=False)
    assert own.x.shape == (4, 3, 16, 16)
    np.testing.assert_allclose(own.inputs(slice(None))[2].mean(axis=(1, 2)), [120 / 255, 0, 1], atol=1e-6)
    assert own.y.tolist() == [0, 1, 0, 1] and own.classes == ("cat", "dog")
    assert set(own.attributes) == {"wears_hat", "note"}
    assert own.attribute("wears_hat").values.tolist() == [0, 1, 1, 0]
    assert own.groups["person"].tolist() == [0, 0, 1, 2] and own.group_names["person"] == ("ann", "bob", "cy")
    grey = data.load("folder", path=str(tmp_path), task="kind", attributes=["wears_hat"])
    assert grey.x.shape == (4, 1, 28, 28) and set(grey.attributes) == {"wears_hat"}


def test_a_sample_is_read_without_opening_the_other_files(tmp_path: Path) -> None:
    write_folder(tmp_path)
    chosen: dict[str, Any] = {"path": str(tmp_path), "task": "kind", "size": 8, "grey": False}
    few, again = (data.load("folder", **chosen, sample=2) for _ in range(2))
    np.testing.assert_array_equal(few.x, again.x)
    assert len(few) == 2 and few.x.dtype == np.uint8 and few.classes == ("cat", "dog")
    whole = data.load("folder", **chosen)
    rows = [next(i for i in range(4) if np.array_equal(whole.x[i], one)) for one in few.x]
    assert few.y.tolist() == whole.y[rows].tolist() and len(data.load("folder", **chosen, sample=99)) == 4
    for index in set(range(4)) - set(rows):
        (tmp_path / f"{index}.png").unlink()
    assert len(data.load("folder", **chosen, sample=2)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "folder.path: is missing"),
        ({"path": "."}, "folder.task: is missing"),
        ({"path": "nowhere", "task": "kind"}, "is not a folder"),
        (
            {"path": ".", "task": "breed"},
            "has no column called 'breed'; choose one of file, kind, wears_hat, person, note",
        ),
        ({"path": ".", "task": "kind", "sample": 0}, "folder.sample: must be a number of images"),
        ({"path": ".", "task": "kind", "size": 0}, "folder.size: must be a number of pixels"),
        ({"path": ".", "task": "kind", "csv": "other.csv"}, "cannot read"),
    ],
)
def test_folder_options(options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(data.DataError, match=message) as error:
        data.load("folder", **options)
    assert "\n" not in str(error.value)


def test_folder_names_the_file_that_is_no_image(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "2.png").write_text("no image")
    with pytest.raises(data.DataError, match=r"2\.png is not an image"):
        data.load("folder", path=str(tmp_path), task="kind")
    (tmp_path / "2.png").unlink()
    with pytest.raises(data.DataError, match=r"cannot read .*2\.png"):
        data.load("folder", path=str(tmp_path), task="kind")
