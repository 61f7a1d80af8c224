"""FairFace from tiny originals that the tests write, and from the packed file where it is at hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from wireleak.lab import data


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
def test_fairface_from_the_authors_files(nested: str, tmp_path: Path) -> None:
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


def test_fairface_reports_what_is_missing(tmp_path: Path) -> None:
    write_faces(tmp_path)
    (tmp_path / "train" / "2.jpg").unlink()
    with pytest.raises(data.DataError, match=r"cannot read .*train/2.jpg"):
        data.load("fairface", tmp_path)
    labels = tmp_path / "fairface_label_val.csv"
    labels.write_text(labels.read_text().replace("0-2", "oldish"))
    with pytest.raises(data.DataError, match="unknown label 'oldish'"):
        data.load("fairface", tmp_path, part="val")
    labels.write_text("file,age\n")
    with pytest.raises(data.DataError, match="has no column called 'gender'; choose one of file, age"):
        data.load("fairface", tmp_path, part="val")


def test_fairface_packed_and_its_repeats_are_dropped(packed: Any) -> None:
    root = packed("fairface_train_32.npz")
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
