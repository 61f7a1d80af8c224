"""Fashion-MNIST from tiny idx files that the tests write, and from the real ones where they are at hand."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from wireleak.lab import data
from wireleak.lab.data.sources import fashion_mnist


@pytest.fixture(autouse=True)
def no_package(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Only the last test reads the files of Debian's package."""
    if "real" not in request.node.name:
        monkeypatch.setattr(fashion_mnist, "_PACKAGED", tmp_path / "nothing")


def write_idx(path: Path, values: np.ndarray) -> None:
    head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))


def write_fashion(folder: Path, train: int = 7, test: int = 3) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    rng, written = np.random.default_rng(0), {}
    for part, count in (("train", train), ("t10k", test)):
        written[f"{part}-images-idx3"] = rng.integers(0, 256, (count, 28, 28))
        written[f"{part}-labels-idx1"] = rng.integers(0, 10, count)
    for name, values in written.items():
        write_idx(folder / f"{name}-ubyte.gz", values)
    return written


@pytest.mark.parametrize("below", ["", "fashion-mnist"])
def test_fashion_mnist_from_the_authors_files(below: str, tmp_path: Path) -> None:
    written = write_fashion(tmp_path / below)
    fashion = data.load("fashion-mnist", tmp_path)
    assert fashion.x.shape == (10, 1, 28, 28) and len(fashion.classes) == 10
    assert (fashion.x[:7, 0] == written["train-images-idx3"]).all()
    assert fashion.y.tolist() == [*written["train-labels-idx1"], *written["t10k-labels-idx1"]]
    assert fashion.groups["part"].tolist() == [0] * 7 + [1] * 3 and fashion.group_names["part"] == ("train", "test")
    test = data.load("fashion-mnist", tmp_path, part="test")
    assert (test.x == fashion.x[7:]).all() and test.groups["part"].tolist() == [1] * 3
    assert fashion.inputs(slice(1)).max() <= 1


def test_fashion_mnist_reports_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match=r"fashion-mnist: not found in .*; apt-get install dataset-fashion-mnist"):
        data.load("fashion-mnist", tmp_path)
    write_fashion(tmp_path)
    with pytest.raises(data.DataError, match=r"part: must be all, train or test, not 'val'"):
        data.load("fashion-mnist", tmp_path, part="val")
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    write_idx(labels, np.zeros(4))
    with pytest.raises(data.DataError, match=r"test holds images \(3, 28, 28\) for 4 labels"):
        data.load("fashion-mnist", tmp_path)
    whole = gzip.decompress(labels.read_bytes())
    for broken in (whole[:-1], whole[:2], b"", b"\x00\x00\x0d\x01" + whole[4:]):
        labels.write_bytes(gzip.compress(broken))
        with pytest.raises(data.DataError, match="no idx file of bytes; fetch it again"):
            data.load("fashion-mnist", tmp_path)
    labels.write_bytes(b"\x1f\x8bjunk")
    with pytest.raises(data.DataError, match=r"cannot read .*t10k-labels"):
        data.load("fashion-mnist", tmp_path)


def test_the_real_fashion_mnist() -> None:
    try:
        fashion = data.load("fashion-mnist", part="test")
    except data.DataError as error:
        pytest.skip(str(error))
    assert fashion.x.shape == (10000, 1, 28, 28) and fashion.x.dtype == np.uint8 and fashion.x.max() == 255
    assert np.bincount(fashion.y).tolist() == [1000] * 10
