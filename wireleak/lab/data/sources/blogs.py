"""2,392 blog posts of 404 people whose gender and age are known, from the package dlatk.

x float32 (n, length): word numbers of one passage, see `wireleak.lab.data.text`.
Task: whether the passage had a mark that is found automatically and removed from the text, as the emoji and mentions of
Elazar and Goldberg (EMNLP 2018) were. By default the marks are exclamations, dots and laughter, for a lively tone.
Private: gender, age (under 23, 23 and more) and band (13-17, 23-27, 33-48: the corpus has no other ages), as stated by
the authors; and the marks of the other tasks, which stay in the text, such as third-person pronouns.
Groups: author (split by it, or a probe learns the person and not the attribute) and post, whose passages share words.
Source: Schler, Koppel, Argamon, Pennebaker 2006, "Effects of Age and Gender on Blogging", as
sampled by dlatk (Schwartz et al. 2017), `dlatk/data/msgs404u.csv` and `users404.csv`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from wireleak.common.registry import unknown
from wireleak.lab.data.dataset import Attribute, DataError, Dataset
from wireleak.lab.data.registry import register
from wireleak.lab.data.tables import read_columns
from wireleak.lab.data.text import balanced, check_sizes, numbered, tokens
from wireleak.lab.data.text import passages as cut_passages

POSTS, PEOPLE = "msgs404u.csv", "users404.csv"
_OTHERS = re.compile(r"(s?he|they)('.+)?|him|hers?|his|himself|herself|them|theirs?|themselves")
_TONE = re.compile(r"!+|\.\.+|…+|\?\?+|~+|(ha)+h?|(he){2,}|lo+l|lmao|omg|wow|yay|hmm+|ugh|argh+")
# For each task: the test for words that mark a passage (these are removed from it), and the two classes.
_TASKS: dict[str, tuple[Callable[[str], bool], tuple[str, str]]] = {
    "tone": (lambda word: _TONE.fullmatch(word) is not None, ("plain", "lively")),
    "others": (lambda word: _OTHERS.fullmatch(word) is not None, ("of nobody else", "of others")),
    "number": (lambda word: word[0].isdigit(), ("without number", "with number")),
    "question": (lambda word: word[0] == "?", ("no question", "question")),
    "link": (lambda word: word == "urllink", ("no link", "link")),
}
_BANDS = ((13, "13-17"), (23, "23-27"), (33, "33-48"))


def _locate(folders: list[Path]) -> Path | None:
    for folder in folders:
        for base in (folder / "blogs", folder):
            if (base / POSTS).is_file() and (base / PEOPLE).is_file():
                return base
    return None


@register(
    "blogs",
    locate=_locate,
    examples=9735,
    shape=(64,),
    task="lively tone (or of others, with a number, a question, a link), the marks themselves removed",
    attributes=("gender", "age", "band", "others", "number", "question", "link"),
    obtain="run: make blogs, or python -m wireleak.lab.data.sources.fetch_blogs (2 files of the package dlatk into "
    "$WIRELEAK_DATA/blogs, or ~/.cache/wireleak/data/blogs)",
    licence="blog posts: non-commercial research only (Schler et al. 2006); dlatk GPL 3",
)
def blogs(
    where: Path, *, task: str = "tone", length: int = 64, passages: int = 8, balance: str | None = None
) -> Dataset:
    """Read the posts and cut them into passages.

    Parameters
    ----------
    where : Path
        The folder that holds both files.
    task : {"tone", "others", "number", "question", "link"}
        Whether the passage had an exclamation (a mark, dots, laughter), a third-person pronoun, a number in digits, a
        question mark, a link.
    length : int
        Number of words of a passage.
    passages : int
        Largest number of passages of a post, from its beginning.
    balance : str, optional
        Attribute to make independent of the task, see `wireleak.lab.data.text.balanced`.

    Raises
    ------
    DataError
        The task is unknown, or the files are not those of dlatk.
    """
    if task not in _TASKS:
        raise DataError(f"blogs: {unknown('task', task, _TASKS)}")
    check_sizes("blogs", length, passages)
    marks, classes = _TASKS[task]
    posts = read_columns("blogs", where / POSTS, ("user_id", "message"))
    people = read_columns("blogs", where / PEOPLE, ("user_id", "gender", "age"))
    row = {name: number for number, name in enumerate(people["user_id"])}
    texts: list[list[str]] = []
    marked: list[bool] = []
    owners: list[int] = []
    origins: list[int] = []
    for post, (author, message) in enumerate(zip(posts["user_id"], posts["message"], strict=True)):
        if author not in row:
            raise DataError(f"blogs: author {author} of {POSTS} is not in {PEOPLE}; fetch both files again")
        for words, mark in _marked_passages(tokens(message), marks, length, passages):
            texts.append(words)
            marked.append(mark)
            owners.append(row[author])
            origins.append(post)
    owner = np.array(owners, np.int64)
    try:
        gender = np.array([int(value) for value in people["gender"]], np.int64)[owner]
        years = np.array([int(value) for value in people["age"]], np.int64)[owner]
    except ValueError as error:
        raise DataError(f"blogs: {PEOPLE} holds a gender or age that is not a number; fetch it again") from error
    band = np.searchsorted([least for least, _ in _BANDS], years, side="right") - 1
    left_in = {
        name: Attribute(name, np.array([any(map(other, text)) for text in texts], np.int64), names, measured=True)
        for name, (other, names) in _TASKS.items()
        if name != task
    }
    dataset = Dataset(
        name="blogs",
        x=numbered(texts, length),
        y=np.array(marked, np.int64),
        task=task,
        classes=classes,
        attributes={
            "gender": Attribute("gender", gender, ("male", "female"), measured=False),
            "age": Attribute("age", (years >= 23).astype(np.int64), ("under 23", "23 and more"), measured=False),
            "band": Attribute("band", band.astype(np.int64), tuple(name for _, name in _BANDS), measured=False),
        }
        | left_in,
        groups={"author": owner, "post": np.array(origins, np.int64)},
        source="blog posts (Schler et al. 2006) as sampled by dlatk 1.3.15, for non-commercial research",
        group_names={"author": tuple(people["user_id"])},
    )
    return balanced(dataset, balance) if balance else dataset


def _marked_passages(
    words: list[str], marks: Callable[[str], bool], length: int, most: int
) -> Iterator[tuple[list[str], bool]]:
    """Return passages without the marks, and whether each had one.

    Marks are removed before the text is cut, because a shorter passage would reveal the task.
    """
    kept: list[str] = []
    before = []
    for word in words:
        if marks(word):
            before.append(len(kept))
        else:
            kept.append(word)
    marked = {min(position, len(kept) - 1) // length for position in before}
    for index, passage in enumerate(cut_passages(kept, length, most)):
        yield passage, index in marked
