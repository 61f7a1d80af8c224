"""Inputs of every kind, against the readers of the lab that training used."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.device.inputs.source import open_source
from client.device.model.errors import DeviceError
from client.device.model.manifest import Manifest
from wireleak.common.measures.statistics.secret_sharer import windows
from wireleak.lab.data.sources.characters import prose
from wireleak.lab.data.tables import read_images
from wireleak.lab.data.text import numbered, tokens
from wireleak.lab.devices.manifest import Inputs

LINES = ["The QUICK brown fox &amp; the 2,5 cats don’t…", "", "one   two!!! — naïve", "word " * 30]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Any]:
    """Read inputs as an encoder of this kind takes them: (names, values, notes)."""

    def run(kind: str, shape: tuple[int, ...], *given: Any, resize: bool = False, **scaling: Any) -> Any:
        taken = Inputs(kind, shape, *scaling.get("ends", (0.0, 1.0))).described()  # type: ignore[arg-type]
        kept = {key: value for key, value in taken.items() if key not in ("kind", "shape")}
        manifest = Manifest(tmp_path, "m", 1, kind, shape, kept, (1,), ("a", "b"), (), None, "id")
        notes: list[str] = []
        source = open_source([str(name) for name in given], manifest, resize, notes.append)
        items = list(source.items)
        return [item.name for item in items], np.array([item.values for item in items]), notes

    return run


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / "photos" / name for name in ("a.png", "b.jpg", "deep/c.bmp")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (90, 60, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_scaled_as_the_lab_scales_them(read: Any, photos: list[Path], channels: int) -> None:
    names, values, _ = read("image", (channels, 16, 16), photos[0].parent, resize=True)
    assert names == sorted(map(str, photos))
    np.testing.assert_allclose(values, read_images("folder", photos, 16, channels == 1) / 255, atol=1e-6)


def test_a_picture_s_black_and_white_become_the_manifest_s_values(read: Any, tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "x.png")
    _, values, _ = read("image", (1, 1, 2), tmp_path / "x.png", ends=(1.0, -1.0))
    np.testing.assert_array_equal(values.ravel(), [1, -1])


def test_text_is_numbered_as_the_lab_numbers_it(read: Any, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("\n".join(LINES), encoding="utf-8")
    names, values, _ = read("text", (8,), tmp_path / "lines.txt")
    np.testing.assert_array_equal(values, numbered([tokens(line) for line in LINES if line], 8))
    assert [name.rpartition(":")[2] for name in names] == ["1", "3", "4"]


def test_characters_are_numbered_as_the_lab_numbers_them(read: Any, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("\n".join(LINES), encoding="utf-8")
    _, values, _ = read("characters", (20,), tmp_path / "lines.txt")
    # The lab's windows stop before each character; one more character has the window that the device sends.
    want = [windows(prose(line) + "x")[0][-1] for line in LINES if line]
    np.testing.assert_array_equal(values, want)


def test_sensor_rows_become_windows_and_left_over_rows_are_named(read: Any, tmp_path: Path) -> None:
    table = np.arange(27).reshape(9, 3)
    np.savetxt(tmp_path / "walk.csv", table, delimiter=",", header="x,y,z", comments="")
    names, values, notes = read("window", (3, 4), tmp_path / "walk.csv")
    np.testing.assert_array_equal(values, [table[:4].T, table[4:8].T])
    assert names[1].endswith("walk.csv[1]")
    assert notes == [f"the end of {tmp_path / 'walk.csv'} was not sent: a window needs 4 rows, not 1"]


def test_standard_input_gives_lines_arrays_and_a_picture(
    read: Any, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def feed(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content)), encoding="utf-8"))

    feed("\n".join(LINES).encode())
    np.testing.assert_array_equal(read("text", (8,), "-")[1], numbered([tokens(x) for x in LINES if x], 8))
    stream, rows = io.BytesIO(), np.random.default_rng(1).random((3, 2, 2), dtype=np.float32)
    np.save(stream, rows[0])
    np.save(stream, rows[1:])
    feed(stream.getvalue())
    names, values, _ = read("array", (2, 2), "-")
    np.testing.assert_array_equal(values, rows)
    assert names == ["-[0]", "-[1]", "-[2]"]
    feed(photos[0].read_bytes())
    np.testing.assert_array_equal(
        read("image", (3, 8, 8), "-", resize=True)[1], read("image", (3, 8, 8), photos[0], resize=True)[1]
    )


@pytest.mark.parametrize(
    ("kind", "shape", "name", "content", "line"),
    [
        ("image", (1, 8, 8), "a.png", None, "a.png has 6 x 4 pixels, the encoder takes 8 x 8; give --resize"),
        ("image", (1, 8, 8), "a.png", b"no picture", "a.png is not a picture"),
        ("image", (1, 8, 8), "a.csv", b"1", "a.csv is no image for this encoder; give a file of .png"),
        ("window", (2, 2), "a.csv", b"1,2\n3\n", "row 2 of .*a.csv has 1 numbers, the encoder takes 2"),
        ("window", (2, 2), "a.csv", b"x,y\n1,2\n3,b\n", "row 3 of .*a.csv is not numbers: '3,b'"),
        ("window", (2, 2), "a.csv", b"1,2\n3,nan\n", r"a.csv\[0\] holds NaN or infinite values"),
        ("text", (4,), "a.txt", b"\xff\xfe\xff", "cannot read .*a.txt"),
        ("array", (2,), "a.npz", b"PK", "cannot read .*a.npz"),
        ("array", (2,), "a.npy", np.zeros((3, 4)), r"a.npy holds shape \[3, 4\], the encoder takes \[2\]"),
        ("array", (2,), "a.npy", np.array(["a", "b"]), r"a.npy\[0\] holds <U1, not numbers"),
    ],
)
def test_an_input_of_the_wrong_form_is_one_line(
    read: Any, tmp_path: Path, kind: str, shape: tuple[int, ...], name: str, content: Any, line: str
) -> None:
    if content is None:
        Image.new("L", (6, 4)).save(tmp_path / name)
    elif isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        np.save(tmp_path / name, content)
    with pytest.raises(DeviceError, match=line) as caught:
        read(kind, shape, tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_files_and_empty_folders_are_named(read: Any, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="--input: no file or folder /nowhere"):
        read("image", (1, 8, 8), "/nowhere")
    with pytest.raises(DeviceError, match=r"holds no file of \.png, \.jpg"):
        read("image", (1, 8, 8), tmp_path)
    with pytest.raises(DeviceError, match="- is standard input, and cannot be joined with files"):
        read("image", (1, 8, 8), "-", tmp_path)
