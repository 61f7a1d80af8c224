"""Omniglot from tiny originals that the tests write, and from the packed file where it is at hand."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wireleak.lab import data
from wireleak.lab.data.sources.omniglot import ATTACKER, VICTIMS, VICTIMS_AS_PUBLISHED, area_weights

LETTERS = {"background": ("Greek", "Latin"), "evaluation": ("Angelic",)}


@pytest.fixture(scope="module")
def drawings() -> Any:
    """(alphabet, part, character, drawer) -> 105x105 ink."""
    rng = np.random.default_rng(0)
    return {
        (alphabet, part, character, drawer): rng.random((105, 105)) < 0.2
        for part, alphabets in LETTERS.items()
        for alphabet in alphabets
        for character in (1, 2)
        for drawer in (1, 2, 3, 4)
    }


def write_drawings(folder: Path, drawings: Any) -> None:
    for (alphabet, part, character, drawer), ink in drawings.items():
        path = folder / f"images_{part}" / alphabet / f"character{character:02}" / f"0001_{drawer:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(~ink).convert("1").save(path)


def test_omniglot_from_the_authors_images(drawings: Any, tmp_path: Path) -> None:
    write_drawings(tmp_path, drawings)
    full = data.load("omniglot", tmp_path, size=105)
    assert full.classes == ("Angelic", "Greek", "Latin")
    assert len(full) == 24
    row = np.flatnonzero(
        (full.groups["alphabet"] == 2) & (full.groups["drawer"] == 2 * 20 + 2) & (full.groups["character"] == 5)
    )
    assert len(row) == 1
    np.testing.assert_array_equal(full.x[row[0], 0], drawings["Latin", "background", 2, 3])
    assert full.attribute("drawer").values[row[0]] == 2
    assert (full.groups["part"] == (full.y == 0)).all()
    for name in ("position", "size", "slant"):
        values = full.attribute(name).values
        assert all(values[full.groups["character"] == c].sum() == 2 for c in range(6))

    few = data.load("omniglot", tmp_path, size=105, part="background", alphabets=["Latin"])
    assert few.classes == ("Latin",) and len(few) == 8


def test_omniglot_is_the_same_from_zips_and_from_the_packed_file(drawings: Any, tmp_path: Path) -> None:
    write_drawings(tmp_path / "a", drawings)
    (tmp_path / "b").mkdir()
    for part in LETTERS:
        with zipfile.ZipFile(tmp_path / "b" / f"images_{part}.zip", "w") as archive:
            for path in (tmp_path / "a").rglob(f"images_{part}/**/*.png"):
                archive.write(path, path.relative_to(tmp_path / "a"))
    names = sorted({key[0] for key in drawings}, reverse=True)
    keys = list(drawings)
    np.savez(
        tmp_path / "omniglot.npz",
        x=np.stack([np.packbits(drawings[key].reshape(-1)) for key in keys]),
        names=np.array(names),
        alphabet=np.array([names.index(key[0]) for key in keys], np.uint8),
        char=np.array([key[2] for key in keys], np.uint8),
        drawer=np.array([key[3] for key in keys], np.uint8),
        evaluation=np.array([key[1] == "evaluation" for key in keys]),
    )
    first, *others = (data.load("omniglot", root) for root in (tmp_path / "a", tmp_path / "b", tmp_path))
    for other in others:
        np.testing.assert_array_equal(first.x, other.x)
        np.testing.assert_array_equal(first.y, other.y)
        for name, attribute in first.attributes.items():
            np.testing.assert_array_equal(attribute.values, other.attributes[name].values)


def test_omniglot_is_shrunk_by_area_as_pillow_does(drawings: Any, tmp_path: Path) -> None:
    write_drawings(tmp_path, drawings)
    x = data.load("omniglot", tmp_path, alphabets=["Angelic"]).x
    ink = drawings["Angelic", "evaluation", 1, 1].astype(np.float32)
    # Twenty-eight times as many pixels make every edge fall on a pixel: then Pillow's box filter is exact, too.
    large = Image.fromarray(np.kron(ink, np.ones((28, 28), np.float32)))
    theirs = np.asarray(large.resize((28, 28), Image.Resampling.BOX))
    np.testing.assert_allclose(x[0, 0], theirs, atol=1e-5)
    np.testing.assert_allclose(area_weights(105, 28).sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(area_weights(6, 3), np.kron(np.eye(3), [0.5, 0.5]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 64}, "omniglot.size: must be 28 or 105, not 64"),
        ({"part": "test"}, "omniglot.part: must be all, background or evaluation"),
        ({"alphabets": ["Klingon"]}, "no alphabet called 'Klingon'; choose one of Angelic, Greek, Latin"),
    ],
)
def test_omniglot_options(options: dict[str, Any], message: str, drawings: Any, tmp_path: Path) -> None:
    write_drawings(tmp_path, drawings)
    with pytest.raises(data.DataError, match=message):
        data.load("omniglot", tmp_path, **options)


def test_omniglot_reports_what_is_not_omniglot(tmp_path: Path) -> None:
    for part in LETTERS:
        (tmp_path / f"images_{part}" / "Greek" / "character01").mkdir(parents=True)
    with pytest.raises(data.DataError, match="no drawings"):
        data.load("omniglot", tmp_path)
    bad = tmp_path / "images_background" / "Greek" / "character01" / "0001_01.png"
    bad.write_bytes(b"junk")
    with pytest.raises(data.DataError, match="is not an image"):
        data.load("omniglot", tmp_path)
    Image.new("1", (28, 28)).save(bad)
    with pytest.raises(data.DataError, match="is 28x28, not 105x105"):
        data.load("omniglot", tmp_path)
    (tmp_path / "omniglot.npz").write_bytes(b"junk")
    with pytest.raises(data.DataError, match="cannot read"):
        data.load("omniglot", tmp_path)


def test_omniglot_baselines_and_the_published_overlap(packed: Any) -> None:
    """Errors of the mean and the empty image; the post's attacker and test set share 1,000 drawings."""
    root = packed("omniglot.npz")
    first = data.load("omniglot", root, size=105, alphabets=ATTACKER)
    published = data.load("omniglot", root, size=105, alphabets=VICTIMS_AS_PUBLISHED)
    default = data.load("omniglot", root, size=105, alphabets=VICTIMS)
    assert (len(first), len(published), len(default)) == (2720, 3120, 3220)
    assert ((first.x - first.x.mean(axis=0)) ** 2).mean() == pytest.approx(0.0625, abs=5e-5)
    assert (first.x**2).mean() == pytest.approx(0.0763, abs=5e-5)
    assert data.find_overlap(first.x, published.x).count == 1000
    assert data.find_overlap(first.x, default.x).count == 0
    with pytest.raises(data.DataError, match="attacker and victims share 1000 identical examples"):
        data.refuse_overlap({"attacker": first.x, "victims": published.x})
    data.refuse_overlap({"attacker": first.x, "victims": default.x})


def test_omniglot_at_28_pixels_has_the_anchors_mean_image(packed: Any) -> None:
    root = packed("omniglot.npz")
    every = data.load("omniglot", root)
    assert every.x.shape == (32460, 1, 28, 28) and len(every.classes) == 50 and every.x.max() <= 1
    assert every.groups["part"].sum() == 13180 and (every.groups["part"] == (every.y < 20)).all()
    roles = data.assign_roles(
        every,
        clients=11000,
        evaluation=2000,
        attacker=None,
        victims=None,
        only={
            "clients": {"part": ["evaluation"]},
            "attacker": {"alphabet": ATTACKER},
            "victims": {"alphabet": VICTIMS},
        },
    )
    assert len(roles.attacker) >= 2719 and len(roles.victims) >= 3219  # all but an identical copy
    data.refuse_overlap({"attacker": every.x[roles.attacker], "victims": every.x[roles.victims]})
    victims = every.x[roles.victims]
    assert ((victims - victims.mean(axis=0)) ** 2).mean() == pytest.approx(0.0457, abs=1e-4)
    assert ((victims - every.x[roles.attacker].mean(axis=0)) ** 2).mean() == pytest.approx(0.0461, abs=1e-4)
