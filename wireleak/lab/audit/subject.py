"""The subject of an audit: a user's network and data, found and checked before any process starts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from wireleak.common.measures.scores.measure import are_numbered
from wireleak.common.models import Network, build
from wireleak.common.models.factory import resolve
from wireleak.common.registry import unknown
from wireleak.lab.audit.continuing import Progress
from wireleak.lab.audit.cost import Cost, device_costs
from wireleak.lab.audit.readings import CutReading, Readings
from wireleak.lab.audit.sizes import Counts, Needs, Speed, fitted, plan_cuts
from wireleak.lab.audit.speed import measured_speed
from wireleak.lab.data import DataError, Dataset, first_occurrences, load
from wireleak.lab.data.registry import names as data_names
from wireleak.lab.launch.processes import Launcher
from wireleak.lab.study.schema import StudyError

_MOST_CUTS = 6
# Passes over the training data without and with --quick: enough for running statistics to converge.
EPOCHS = (9, 6)
_RATE, _FINE_TUNING_RATE = 2e-3, 3e-4
# Examples of a folder that are read to learn shapes, before it is known how many are needed.
_PEEK = 16
# Numbers in an input above which the memory of training matters.
_LARGE = 64 * 64


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
    weights : Path or None
        Trained weights, as safetensors or a torch state dict.
    epochs : int or None
        Passes over the training data; the default is 0 with weights, else `EPOCHS`.
    learning_rate : float or None
        Adam's learning rate; the default is lower with weights.
    frozen_encoder : bool
        Train only the blocks after each cut.
    budget : float or None
        Seconds in which an audit ends.
    memory : int
        Bytes for all processes together.
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
    weights: Path | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    frozen_encoder: bool = False
    budget: float | None = None
    memory: int = 4 * 2**30

    @property
    def passes(self) -> int:
        """Passes over the training data."""
        return (0 if self.weights else EPOCHS[self.quick]) if self.epochs is None else self.epochs

    @property
    def rate(self) -> float:
        """Adam's learning rate."""
        return (_FINE_TUNING_RATE if self.weights else _RATE) if self.learning_rate is None else self.learning_rate


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
        The device's cost at every possible cut.
    counts : Counts
        Examples of each role.
    unfit : tuple of str
        Tensors of the last layer that the file of weights has for another number of classes.
    left_out : dict of int to str
        Why a possible cut is not audited.
    speed : Speed or None
        Speed of the network, where a budget asks for it.
    """

    request: Request
    dataset: Dataset
    source: str
    options: dict[str, Any]
    network: Network
    cuts: tuple[int, ...]
    costs: dict[int, Cost]
    counts: Counts
    unfit: tuple[str, ...] = ()
    left_out: dict[int, str] = field(default_factory=dict)
    speed: Speed | None = None

    @property
    def pixels(self) -> int:
        """Numbers in one input."""
        return math.prod(self.dataset.input_shape)

    @property
    def is_large(self) -> bool:
        """Whether inputs are so large that memory and time of copies matter."""
        return self.pixels > _LARGE

    def model(self, seed: int, weights: Path | None = None) -> dict[str, Any]:
        """Return the arguments that build the network, by default with the user's weights, as JSON takes them."""
        given, shape, classes = weights or self.request.weights, self.dataset.input_shape, len(self.dataset.classes)
        model = {"name": self.request.model, "input_shape": list(shape), "classes": classes, "seed": seed}
        return model | {"weights": None if given is None else str(given)}

    def block(self, cut: int) -> str:
        """Return the name of the last block on the device."""
        return list(dict(self.network.blocks.named_children()))[cut - 1]

    @property
    def is_text(self) -> bool:
        """Whether inputs are texts, stored as word numbers."""
        return are_numbered(self.dataset.x)


@dataclass
class Audited:
    """A finished audit.

    Parameters
    ----------
    subject : Subject
    folder : Path
        The run's folder.
    readings : Readings
        Readings of its captures.
    doubts : tuple of str
        Ways in which the network did not learn its task.
    skipped : dict
        Attacks that did not run, with the reason, by cut and attack.
    stopped : dict
        How far attacks came that ended early, by cut and attack.
    survey : dict
        Cheap readings of all possible cuts.
    peak, seconds : int, float
        Largest memory of all processes together in bytes, and the audit's time.
    """

    subject: Subject
    folder: Path
    readings: Readings = field(default_factory=Readings)
    doubts: tuple[str, ...] = ()
    skipped: dict[int, dict[str, str]] = field(default_factory=dict)
    stopped: dict[int, dict[str, str]] = field(default_factory=dict)
    survey: dict[int, CutReading] = field(default_factory=dict)
    peak: int = 0
    seconds: float = 0.0


def examine(
    request: Request,
    progress: Progress | None = None,
    launcher: Callable[[], Launcher] | None = None,
    *,
    narrowest: bool = False,
    protect: str | None = None,
) -> Subject:
    """Find and check the network and data of an audit.

    With `progress`, the sizes are those of the run that goes on. With `narrowest`, the only cut is the one that sends
    least, unless the request names cuts. `protect` is an attribute that the data must have. `launcher` is called for
    the process that measures the network's speed, after the checks.

    Raises
    ------
    StudyError, DataError
        One line that names the wrong value and the fix.
    """
    name = _resolved(request)
    source, options = _source(request)
    sampled = source == "folder" and "sample" not in options
    # A folder's shape and classes are known after a few images; the others are read once their number is known.
    dataset = _load(request, source, options | ({"sample": _PEEK} if sampled else {}))
    if len(dataset.classes) < 2:
        raise StudyError(f"--task: {dataset.task} has only one class; name another column or attribute")
    if protect is not None and protect not in (known := request.attributes or tuple(dataset.attributes)):
        raise StudyError(f"--protect: {unknown('attribute', protect, known)}")
    # From here on torch is needed, whose import takes longer than all checks above.
    try:
        network = build(name, dataset.input_shape, len(dataset.classes), 0)
        unfit = _fit_weights(network, request)
    except ValueError as error:
        raise StudyError(f"{error}{_shape_hint(source, dataset, str(error))}") from error
    costs = device_costs(network)
    # Clients of a comparison of defences train in small batches where images are large.
    large = narrowest and math.prod(dataset.input_shape) > _LARGE
    timed = large or (request.budget is not None and progress is None)
    speed = None
    if timed:
        speed = measured_speed(name, dataset.input_shape, len(dataset.classes), launcher and launcher())
    if narrowest and request.cuts is None:
        request = replace(request, cuts=(min(costs, key=lambda cut: (costs[cut].floats, cut)),))
    cuts, left_out = _chosen(network, request, costs)
    shape = Needs(math.prod(dataset.input_shape), request.memory, request.quick, request.passes > 0)
    cuts, counts, skipped = plan_cuts(cuts, costs, shape, speed, request.budget, fixed=request.cuts is not None)
    left_out |= skipped
    if progress is not None:
        cuts, counts, left_out = progress.cuts, progress.counts, progress.left_out
    if sampled:
        # The sizes of a run that goes on are those that fitted, so the sample's size is kept apart.
        options |= {"sample": math.ceil(counts.total / 0.85) if progress is None else progress.sample}
        dataset = _load(request, source, options)
    dataset = replace(dataset, attributes=_attributes(dataset, request.attributes))
    distinct = len(first_occurrences(dataset.x))
    if progress is None:
        counts = fitted(counts, distinct, grouped=request.disjoint_by is not None)
    return Subject(
        replace(request, model=name), dataset, source, options, network, cuts, costs, counts, unfit, left_out, speed
    )


def data_of(subject: Subject, clients: int = 2) -> dict[str, Any]:
    """Return the `data` table of a study on the user's data."""
    request = subject.request
    asked = {"task": request.task, "disjoint_by": request.disjoint_by}
    return {
        "name": subject.source,
        "options": subject.options,
        "clients": clients,
        **subject.counts.roles(),
        **{name: value for name, value in asked.items() if value is not None},
    }


def _resolved(request: Request) -> str:
    """Return the network's name, and check the files of the request that need no data."""
    try:
        name = resolve(request.model)
    except ValueError as error:
        raise StudyError(str(error)) from error
    if request.weights is not None and not request.weights.is_file():
        raise StudyError(f"--weights: no file {request.weights}; give a .safetensors file or a torch state dict")
    return name


def _load(request: Request, source: str, options: dict[str, Any]) -> Dataset:
    try:
        dataset = load(source, request.root, **options)
    except TypeError as error:  # the value of an option has the wrong type
        raise DataError(f"{source}: --option: {error}") from error
    # The names are checked on the first few examples already; their values are checked on all.
    try:
        option = "--task"
        if request.task is not None and request.task != dataset.task:
            dataset = dataset.with_task(request.task)
        option = "--attributes"
        for name in request.attributes or ():
            dataset.attribute(name)
        option = "--disjoint-by"
        if request.disjoint_by is not None:
            dataset.group(request.disjoint_by)
    except DataError as error:
        raise DataError(f"{option}: {error}") from None
    return dataset


def _fit_weights(network: Network, request: Request) -> tuple[str, ...]:
    """Load the user's weights, and return the names of tensors that were trained for other classes."""
    if request.weights is None:
        return ()
    from wireleak.common.models.pretrained import load_pretrained

    unfit = load_pretrained(network.whole, request.weights, network.classes)
    if unfit and not request.passes:
        raise StudyError(
            f"--weights: {unfit[0]!r} of {request.weights} is of other classes than the task's {network.classes}; "
            "train the last layer with --epochs 3, or give the weights of this task"
        )
    return unfit


def _shape_hint(source: str, dataset: Dataset, error: str) -> str:
    wrong = source == "folder" and "inputs of shape" in error
    shown = "x".join(map(str, dataset.input_shape))
    return f"; the folder was read as {shown}: set --option size=224 --option grey=false" if wrong else ""


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


def _chosen(network: Network, request: Request, costs: dict[int, Cost]) -> tuple[tuple[int, ...], dict[int, str]]:
    """Return the cuts to audit, and why the other possible ones are left out."""
    possible = list(network.cuts)
    names = list(dict(network.blocks.named_children()))
    if request.cuts is not None:
        for cut in request.cuts:
            if cut not in possible:
                known = ", ".join(f"{one} (after {names[one - 1]})" for one in possible)
                raise StudyError(f"--cuts: the network cannot be cut at {cut}; choose one of {known}")
        return tuple(sorted(set(request.cuts))), {}
    left_out: dict[int, str] = {}
    for cut in possible:
        smaller = [one for one in possible if one < cut and costs[one].bytes < costs[cut].bytes]
        if smaller:
            left_out[cut] = f"cut {smaller[0]} sends less after less work on the device"
    sensible = [cut for cut in possible if cut not in left_out]
    if request.budget is not None:
        return tuple(sensible), left_out
    most = min(3 if request.quick else _MOST_CUTS, len(sensible))
    places = np.linspace(0, len(sensible) - 1, most).round().astype(int)
    chosen = tuple(sensible[place] for place in dict.fromkeys(places.tolist()))
    return chosen, left_out | {cut: "name it with --cuts to audit it" for cut in sensible if cut not in chosen}
