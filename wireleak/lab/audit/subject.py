"""The subject of an audit: a user's network and data, found and checked before any process starts."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wireleak.common.files import write_atomically
from wireleak.common.measures.scores.measure import are_numbered
from wireleak.common.models import Network, build
from wireleak.common.models.factory import resolve
from wireleak.common.registry import unknown
from wireleak.lab.audit.cost import Cost, device_cost
from wireleak.lab.audit.readings import Readings
from wireleak.lab.data import DataError, Dataset, load
from wireleak.lab.data.registry import names as data_names
from wireleak.lab.study.schema import StudyError

_MOST_CUTS = 6


@dataclass(frozen=True)
class Request:
    """The arguments of `wireleak audit`.

    Parameters
    ----------
    model : str
        "module:factory" or "file.py:factory".
    data : str
        A data set's name, a folder of images with a CSV, or a .csv of text.
    task : str or None
        The column or attribute that is the main task.
    attributes, cuts : sequence or None
        Attributes and cuts to audit; the default is every attribute, and up to six cuts.
    options : sequence of str
        The data set's own options, "name=value".
    disjoint_by : str or None
        Group of which clients, attacker and victims share no value.
    seeds : int
        Runs with seeds 0 to seeds - 1.
    quick : bool
        Use fewer examples, rounds and attackers for a first look.
    root : Path or None
        Folder that holds data sets.
    """

    model: str
    data: str
    task: str | None = None
    attributes: tuple[str, ...] | None = None
    cuts: tuple[int, ...] | None = None
    options: tuple[str, ...] = ()
    disjoint_by: str | None = None
    seeds: int = 1
    quick: bool = False
    root: Path | None = None


@dataclass(frozen=True)
class Subject:
    """The network and data of an audit, found and checked.

    Parameters
    ----------
    request : Request
        Request with the model's name resolved.
    dataset : Dataset
        Data set with the requested task and attributes.
    source : str
        The data set's registry name.
    options : dict
        The data set's options.
    network : Network
    cuts : tuple of int
        Cuts to audit.
    costs : dict of int to Cost
        The device's cost by cut.
    """

    request: Request
    dataset: Dataset
    source: str
    options: dict[str, Any]
    network: Network
    cuts: tuple[int, ...]
    costs: dict[int, Cost]

    def block(self, cut: int) -> str:
        """Return the name of the last block on the device."""
        return list(dict(self.network.blocks.named_children()))[cut - 1]

    @property
    def is_text(self) -> bool:
        """Whether inputs are texts, stored as word numbers."""
        return are_numbered(self.dataset.x)


@dataclass
class Audited:
    """A finished audit: its subject, the run's folder, and the readings of its captures."""

    subject: Subject
    folder: Path
    readings: Readings


def examine(request: Request) -> Subject:
    """Find and check the network and data of an audit, before any process starts.

    Raises
    ------
    StudyError, DataError
        One line that names the wrong value and the fix.
    """
    source, options = _source(request)
    try:
        dataset = load(source, request.root, **options)
    except TypeError as error:  # the value of an option has the wrong type
        raise DataError(f"{source}: --option: {error}") from error
    if request.task is not None and request.task != dataset.task:
        dataset = dataset.with_task(request.task)
    dataset = replace(dataset, attributes=_attributes(dataset, request.attributes))
    if len(dataset.classes) < 2:
        raise StudyError(f"--task: {dataset.task} has only one class; name another column or attribute")
    try:
        name = resolve(request.model)
        network = build(name, dataset.input_shape, len(dataset.classes), 0)
    except ValueError as error:
        raise StudyError(str(error)) from error
    cuts = _chosen(network, request)
    costs = {cut: device_cost(network, cut) for cut in cuts}
    return Subject(replace(request, model=name), dataset, source, options, network, cuts, costs)


def data_of(subject: Subject) -> dict[str, Any]:
    """Return the `data` table of a study on the user's data."""
    request = subject.request
    asked = {"task": request.task, "disjoint_by": request.disjoint_by}
    return {
        "name": subject.source,
        "options": subject.options,
        "clients": 2,
        **sizes(subject),
        **{name: value for name, value in asked.items() if value is not None},
    }


def sizes(subject: Subject) -> dict[str, int]:
    """Return the number of examples for each role, within the size of the data set."""
    quick, count = subject.request.quick, len(subject.dataset)
    wanted = (
        {"train": 640, "evaluation": 160, "attacker": 500, "victims": 150}
        if quick
        else {"train": 2560, "evaluation": 400, "attacker": 1500, "victims": 400}
    )
    # Keep a margin for repeated examples, which are dropped.
    share = min(1.0, 0.85 * count / sum(wanted.values()))
    sizes = {role: int(most * share) for role, most in wanted.items()}
    if sizes["train"] < 64 or sizes["victims"] < 20:
        raise DataError(f"--data: {count} examples are too few for an audit; give 250 or more")
    return sizes


def keep(path: Path, study: str) -> Path:
    """Write a study to a file for the user, and return the path.

    Raises
    ------
    StudyError
        The file cannot be written.
    """
    try:
        write_atomically(path, study.encode())
    except OSError as error:
        raise StudyError(f"--out: cannot write {path}: {error.strerror}") from error
    return path


def words(text: str) -> tuple[str, ...]:
    """Return the parts of "a,b"."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of "1,3".

    Raises
    ------
    StudyError
        A part is not a number.
    """
    try:
        return tuple(int(part) for part in words(text))
    except ValueError:
        raise StudyError(f"--cuts: {text!r} is not a list of numbers; write it as 1,3") from None


def slug(name: str) -> str:
    """Return `name` in the characters that a study's name may have."""
    return "".join(one if one.isascii() and one.isalnum() else "-" for one in name.lower()).strip("-") or "network"


def _source(request: Request) -> tuple[str, dict[str, Any]]:
    """Return the data set's registry name and its options."""
    options = dict(_option(text) for text in request.options)
    if request.data in data_names():
        return request.data, options
    path = Path(request.data).expanduser().absolute()
    if path.is_dir() or path.suffix.lower() == ".csv":
        source, option = ("folder", "path") if path.is_dir() else ("textcsv", "csv")
        if not path.exists():
            raise DataError(f"--data: no file {path}; name a CSV of texts, a folder of images or a data set")
        if request.task is None:
            raise DataError(f"--task: name the column of {path.name} that is the main task")
        columns = {"attributes": list(request.attributes)} if request.attributes is not None else {}
        return source, {option: str(path), "task": request.task, **columns, **options}
    raise DataError(
        f"--data: {unknown('data set', request.data, data_names(), 'a folder of images with a CSV, or a CSV of texts')}"
    )


def _option(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator:
        raise StudyError(f'--option: {text!r} is not "name=value"')
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value


def _attributes(dataset: Dataset, wanted: tuple[str, ...] | None) -> dict[str, Any]:
    chosen = {name: dataset.attribute(name) for name in (wanted if wanted is not None else dataset.attributes)}
    for name, attribute in chosen.items():
        present = np.unique(attribute.values)
        if len(present) < 2:
            only = attribute.classes[int(present[0])] if len(present) else "nothing"
            raise StudyError(
                f"--attributes: {name} has one class ({only}) in all {len(dataset)} examples, so nothing can be "
                "learnt; leave it out"
            )
    return chosen


def _chosen(network: Network, request: Request) -> tuple[int, ...]:
    possible = list(network.cuts)
    if request.cuts is None:
        most = min(3 if request.quick else _MOST_CUTS, len(possible))
        places = np.linspace(0, len(possible) - 1, most).round().astype(int)
        return tuple(possible[place] for place in dict.fromkeys(places.tolist()))
    names = list(dict(network.blocks.named_children()))
    for cut in request.cuts:
        if cut not in possible:
            known = ", ".join(f"{one} (after {names[one - 1]})" for one in possible)
            raise StudyError(f"--cuts: the network cannot be cut at {cut}; choose one of {known}")
    return tuple(sorted(set(request.cuts)))
