import csv
import subprocess
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wireleak.lab import data
from wireleak.lab.data import text
from wireleak.lab.data.dataset import Dataset
from wireleak.lab.data.sources.blogs import PEOPLE, POSTS
from wireleak.lab.study.library import load_study

ROLES = {"clients": "train", "evaluation": "evaluation", "attacker": "attacker", "victims": "victims"}
POEM = "I met &quot;her&quot;, it’s true... In 1999 (or 3.5 years ago)!! naïve_x"


def test_words_numbers_and_runs_of_marks() -> None:
    assert text.tokens(POEM) == [
        "i", "met", '"', "her", '"', ",", "it's", "true", "...", "in", "1999", "(", "or", "3.5", "years", "ago", ")",
        "!!", "naïve", "_", "x",
    ]  # fmt: skip
    assert text.tokens("&nbsp;\n ") == []


def test_a_words_number_is_public_and_pads_are_none() -> None:
    x = text.numbered([["a", "b", "c"], []], 2)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, [[1 + zlib.crc32(b"a") % 5000, 1 + zlib.crc32(b"b") % 5000], [0, 0]])
    numbers = [text.number(str(i)) for i in range(60_000)]
    assert (min(numbers), max(numbers)) == (1, text.BUCKETS)


@pytest.mark.parametrize(("words", "sizes"), [(3, [3]), (10, [4, 4, 2]), (9, [4, 4, 1]), (40, [4, 4, 4]), (0, [])])
def test_passages(words: int, sizes: Any) -> None:
    assert [len(part) for part in text.passages(["w"] * words, 4, 3)] == sizes
    assert [len(part) for part in text.passages(["w"] * 41, 40, 3)] == [40]


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Three authors, one post each; the second is cut in two."""
    _write(
        tmp_path / "blogs" / PEOPLE,
        ["user_id", "gender", "age", "occu"],
        [(7, 1, 17, ""), (5, 0, 23, ""), (6, 0, 48, "")],
    )
    _write(
        tmp_path / "blogs" / POSTS,
        ["message_id", "user_id", "message"],
        [(1, 5, "a b c d e f 7 g"), (2, 7, "7 ... he said, yes? urlLink"), (3, 6, "we are at home today")],
    )
    return tmp_path


def test_blogs_of_the_original_files(few: Path) -> None:
    blogs = data.load("blogs", few, task="number", length=4)
    names = blogs.group_names["author"]
    assert [names[i] for i in blogs.groups["author"]] == ["5", "5", "7", "7", "6", "6"]
    np.testing.assert_array_equal(blogs.groups["post"], [0, 0, 1, 1, 2, 2])
    told = {k: [a.classes[v] for v in a.values] for k, a in blogs.attributes.items()}
    assert told["gender"] == ["male", "male", "female", "female", "male", "male"]
    assert told["age"] == ["23 and more"] * 2 + ["under 23"] * 2 + ["23 and more"] * 2
    assert told["band"] == ["23-27"] * 2 + ["13-17"] * 2 + ["33-48"] * 2
    np.testing.assert_array_equal(blogs.y, [0, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(blogs.x[1], [text.number(w) for w in "efg"] + [0])


@pytest.mark.parametrize(
    ("task", "mark", "where"), [("tone", "...", 2), ("others", "he", 2), ("question", "?", 3), ("link", "urllink", 3)]
)
def test_the_tasks_marks_are_taken_out(few: Path, task: str, mark: str, where: int) -> None:
    assert (data.load("blogs", few, task="number", length=4).x == text.number(mark)).any()
    blogs = data.load("blogs", few, task=task, length=4)
    assert not (blogs.x == text.number(mark)).any()
    assert blogs.y.tolist() == [int(i == where) for i in range(len(blogs))]
    assert task not in blogs.attributes


def test_the_other_tasks_marks_stay_and_are_private(few: Path) -> None:
    blogs = data.load("blogs", few, task="tone", length=4)
    marked = {name: one.values.tolist() for name, one in blogs.attributes.items() if one.measured}
    words = [[text.number(w) for w in marks] for marks in (["he"], ["7"], ["?"], ["urllink"])]
    seen = [[int(np.isin(row, mark).any()) for row in blogs.x] for mark in words]
    assert marked == dict(zip(("others", "number", "question", "link"), seen, strict=True))
    assert sum(map(sum, seen)) == 5  # 7 twice


def test_a_passages_length_does_not_tell_the_task(few: Path) -> None:
    """Every passage but a post's last is full, marks or not."""
    _write(
        few / "blogs" / POSTS, ["user_id", "message"], [(5, "1 a 2 b 3 c 4 d e f g h i j"), (6, "k l m n o 5 6 7 p")]
    )
    blogs = data.load("blogs", few, task="number", length=4)
    np.testing.assert_array_equal((blogs.x > 0).sum(1), [4, 4, 2, 4, 2])
    np.testing.assert_array_equal(blogs.y, [1, 0, 0, 0, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "mood"}, "blogs: no task called 'mood'; choose one of tone, others, number, question, link"),
        ({"length": 2}, "blogs.length: must be a number of words from 4 to 1024, not 2"),
        ({"passages": 0}, "blogs.passages: must be a number of passages per text, 1 or more, not 0"),
    ],
)
def test_blogs_options_are_checked(few: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(data.DataError, match=message):
        data.load("blogs", few, **options)


def test_blogs_that_are_absent_or_others(few: Path, tmp_path: Path) -> None:
    advice = r"not found in .*; run: make blogs, or python -m wireleak\.lab\.data\.sources\.fetch_blogs"
    with pytest.raises(data.DataError, match=advice):
        data.load("blogs", tmp_path / "none")
    assert "non-commercial research" in data.describe("blogs")[0].licence
    _write(few / "blogs" / PEOPLE, ["user_id", "gender", "age"], [(5, 1, "old"), (6, 1, 17), (7, 0, 30)])
    with pytest.raises(data.DataError, match="holds a gender or age that is not a number"):
        data.load("blogs", few)
    _write(few / "blogs" / PEOPLE, ["user_id", "gender", "age"], [(5, 1, 17)])
    with pytest.raises(data.DataError, match=r"author 7 of msgs404u\.csv is not in users404\.csv"):
        data.load("blogs", few)


def test_fetching_refuses_another_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pip that brings other files: nothing is written."""
    from wireleak.lab.data.sources import fetch_blogs

    def pip(argv: Any) -> Any:
        _write(Path(argv[argv.index("--target") + 1]) / "dlatk" / "data" / POSTS, ["user_id"], [(1,)])
        return SimpleNamespace(returncode=0)

    monkeypatch.setenv("WIRELEAK_DATA", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(SystemExit, match=f"holds no {POSTS}, or a different one"):
        fetch_blogs.main()
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- any CSV


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    rows = [
        ("good film", 5, "f", "ann"),
        ("bad, bad film", 1, "m", "bob"),
        ("", 1, "m", "bob"),
        ("so so", 5, "f", "ann"),
    ]
    _write(tmp_path / "reviews.csv", ["body", "stars", "sex", "who"], rows)
    return "reviews.csv"


def test_any_csv_of_text(reviews: Any) -> None:
    read = data.load("textcsv", csv=reviews, text="body", task="stars", author="who", length=4)
    np.testing.assert_array_equal(read.x[1], [text.number(w) for w in ("bad", ",", "bad", "film")])
    assert (read.classes, read.y.tolist()) == (("1", "5"), [1, 0, 1])  # the row without a word is left out
    assert list(read.attributes) == ["sex"] and read.attributes["sex"].values.tolist() == [0, 1, 0]
    assert read.groups["author"].tolist() == [0, 1, 0] and read.group_names["author"] == ("ann", "bob")
    cut = data.load("textcsv", csv=reviews, text="body", task="sex", attributes=["stars"], length=4, passages=9)
    assert list(cut.attributes) == ["stars"] and not cut.groups


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "stars"}, "textcsv.csv: is missing"),
        ({"csv": "reviews.csv"}, "textcsv.task: is missing"),
        ({"csv": "no.csv", "task": "stars"}, "textcsv: cannot read no.csv"),
        (
            {"csv": "reviews.csv", "task": "stars"},
            "reviews.csv has no column called 'text'; choose one of body, stars, sex, who",
        ),
        ({"csv": "reviews.csv", "task": "sex", "text": "body", "author": "name"}, "has no column called 'name'"),
        ({"csv": "one.csv", "task": "sex"}, "textcsv: column sex holds only one value"),
    ],
)
def test_textcsv_mistakes_are_named(reviews: Any, options: dict[str, Any], message: str) -> None:
    _write(Path("one.csv"), ["text", "sex"], [("a", "f"), ("b", "f")])
    with pytest.raises(data.DataError, match=message):
        data.load("textcsv", **options)


def test_a_balanced_attribute_is_independent_of_the_task(reviews: Any) -> None:
    rows = [(f"word{i}", i % 2, i % 3, "x") for i in range(90)] + [(f"more{i}", 1, 1, "x") for i in range(50)]
    _write(Path("many.csv"), ["text", "task", "a", "b"], rows)
    read = data.load("textcsv", csv="many.csv", task="task", balance="a")
    assert [row.mutual_information_bits for row in data.dependence(read)] == [0] and len(read) == 90
    again = data.load("textcsv", csv="many.csv", task="task", balance="a")
    np.testing.assert_array_equal(read.x, again.x)
    with pytest.raises(data.DataError, match="textcsv: no attribute called 'c'; choose one of a"):
        data.load("textcsv", csv="many.csv", task="task", balance="c")
    with pytest.raises(
        data.DataError,
        match=r"textcsv.balance: some value of stars never occurs with some value of sex; remove balance",
    ):
        data.load("textcsv", csv="reviews.csv", task="stars", text="body", balance="sex")


# ---------------------------------------------------------------- the real posts


@pytest.fixture(scope="module")
def real() -> Dataset:
    if data.describe("blogs")[0].where is None:
        pytest.skip("needs the blog posts: python -m wireleak.lab.data.sources.fetch_blogs")
    return data.load("blogs")


def test_the_posts_and_their_people(real: Dataset) -> None:
    assert len(np.unique(real.groups["author"])) == len(real.group_names["author"]) == 404
    first = np.unique(real.groups["author"], return_index=True)[1]
    people = {name: np.bincount(a.values[first]).tolist() for name, a in real.attributes.items() if not a.measured}
    assert (len(real), real.input_shape) == (data.describe("blogs")[0].examples, data.describe("blogs")[0].shape)
    assert people == {"gender": [184, 220], "age": [178, 226], "band": [178, 154, 72]}


def test_what_a_bag_of_words_tells_of_the_victims_of_study_text(real: Dataset) -> None:
    """The upper bound beside the study: it reads the victims' own words, which no attacker on the wire sees."""
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    study = load_study("text")[0]
    real = data.load("blogs", **study.data.options)
    rows, words = np.repeat(np.arange(len(real)), (real.x > 0).sum(1)), real.x[real.x > 0].astype(int)
    bags = csr_matrix((np.ones(len(rows)), (rows, words)))
    bags.sum_duplicates()
    bags = bags.log1p()
    auc: dict[str, list[float]] = {"tone": [], "gender": [], "age": []}
    for seed in study.seeds:
        sizes = {role: getattr(study.data, name) for role, name in ROLES.items()}
        roles = data.assign_roles(real, **sizes, disjoint_by="author", seed=seed)
        for name, known in (("tone", roles.clients), ("gender", roles.attacker), ("age", roles.attacker)):
            truth = real.y if name == "tone" else real.attributes[name].values
            model = LogisticRegression(C=0.05, solver="liblinear").fit(bags[known], truth[known])
            guess = model.predict_proba(bags[roles.victims])[:, 1]
            auc[name].append(roc_auc_score(truth[roles.victims], guess))
    means = {name: np.mean(values) for name, values in auc.items()}
    assert means["tone"] > 0.66 and 0.53 < means["gender"] < 0.65 and 0.64 < means["age"] < 0.76, auc


def _write(path: Any, header: Any, rows: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
