"""A user's own texts: a CSV with a task and private attributes.

x float32 (n, length): word numbers, see `wireleak.lab.data.text`. One column is the text, one the task; others are
private attributes. One may name the author, so that a study can split by it (`disjoint_by = "author"`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wireleak.lab.data.dataset import Attribute, DataError, Dataset
from wireleak.lab.data.registry import register
from wireleak.lab.data.tables import encode, read_columns
from wireleak.lab.data.text import balanced, check_sizes, numbered, tokens
from wireleak.lab.data.text import passages as cut_passages

_MOST_CLASSES = 50


@register(
    "textcsv",
    locate=lambda folders: Path(),
    examples=None,
    shape=(),
    task="a column of the CSV",
    attributes=("columns of the CSV",),
    obtain="give the options csv and task",
    licence="yours",
)
def textcsv(
    where: Path,
    *,
    csv: str | None = None,
    task: str | None = None,
    text: str = "text",
    attributes: Sequence[str] | None = None,
    author: str | None = None,
    length: int = 128,
    passages: int = 1,
    balance: str | None = None,
) -> Dataset:
    """Read a CSV of texts.

    Parameters
    ----------
    where : Path
        Folder to which a relative path refers: the current one.
    csv, task, text : str
        The file (UTF-8, with a header), the task's column, the text's column.
    attributes : sequence of str, optional
        Private columns; by default every other column with 2 to 50 different values.
    author : str, optional
        Column that names the author; it becomes the group "author".
    length : int
        Number of words of a passage; shorter texts are padded.
    passages : int
        Largest number of passages of a text, each with the text's labels. Rows without words are dropped.
    balance : str, optional
        Attribute to make independent of the task, see `wireleak.lab.data.text.balanced`.
    """
    if csv is None or task is None:
        raise DataError(f"textcsv.{'csv' if csv is None else 'task'}: is missing; give the options csv and task")
    check_sizes("textcsv", length, passages)
    named = (text, task, *(attributes or ()), *([author] if author else []))
    columns = read_columns("textcsv", where / Path(csv).expanduser(), named)
    private = _private(columns, {text, task, author}) if attributes is None else attributes
    cut = [list(cut_passages(tokens(entry), length, passages)) for entry in columns[text]]
    row = np.repeat(np.arange(len(cut)), [len(parts) for parts in cut])
    encoded = {name: encode(columns[name]) for name in {task, *private, *([author] if author else [])}}
    for name in (task, *private):
        if len(encoded[name][1]) < 2:
            raise DataError(f"textcsv: column {name} holds only one value, so there is nothing to guess; leave it out")
    y, classes = encoded[task]
    dataset = Dataset(
        name="textcsv",
        x=numbered([part for parts in cut for part in parts], length),
        y=y[row],
        task=task,
        classes=classes,
        attributes={k: Attribute(k, encoded[k][0][row], encoded[k][1], measured=False) for k in private},
        groups={"author": encoded[author][0][row]} if author else {},
        source=csv,
        group_names={"author": encoded[author][1]} if author else {},
    )
    return balanced(dataset, balance) if balance else dataset


def _private(columns: dict[str, list[str]], taken: set[str | None]) -> list[str]:
    return [k for k, values in columns.items() if k not in taken and 2 <= len(set(values)) <= _MOST_CLASSES]
