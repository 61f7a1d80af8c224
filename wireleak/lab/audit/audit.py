"""Audit a user's own network on a user's own data: every cut served, tapped and attacked, side by side.

It writes a study (a TOML file that can be kept, changed and run again), runs it as any other, and adds what only a
comparison of cuts asks: what each cut costs the device, and which leaks least.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from wireleak.common.files import write_atomically
from wireleak.common.measures.scores.score import are_numbered
from wireleak.common.models import Network, build
from wireleak.common.models.factory import resolve
from wireleak.lab.audit.cost import Cost, device_cost
from wireleak.lab.audit.readings import Readings, read_captures
from wireleak.lab.data import DataError, Dataset, load
from wireleak.lab.data.registry import names as data_names
from wireleak.lab.steps.run import run_study
from wireleak.lab.study.schema import StudyError

_MOST_CUTS = 6
# Multiply-adds that the white-box search of one cut may take: minutes on one core.
_SEARCH_FLOPS, _SEARCH_STEPS = 2e12, (60, 500)


@dataclass(frozen=True)
class Request:
    """What `wireleak audit` is asked.

    Parameters
    ----------
    model : str
        "module:factory" or "file.py:factory".
    data : str
        A data set's name, a folder of images with a CSV, or a .csv of text.
    task : str or None
        The column or attribute that is the main task.
    attributes, cuts : sequence or None
        Which to audit; by default every attribute, and up to six cuts from the first to the last.
    options : sequence of str
        The data set's own options, "name=value".
    disjoint_by : str or None
        Group of which clients, attacker and victims share no value.
    seeds : int
        Runs with seeds 0 to seeds - 1.
    quick : bool
        Fewer examples, rounds and attackers: a first look.
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
    """What is audited, once it is known to exist.

    Parameters
    ----------
    request : Request
        With the model's name resolved.
    dataset : Dataset
        With the task and the attributes asked for.
    source : str
        The data set's registry name.
    options : dict
        Its options.
    network : Network
    cuts : tuple of int
        To audit.
    costs : dict of int to Cost
        The device's, by cut.
    """

    request: Request
    dataset: Dataset
    source: str
    options: dict[str, Any]
    network: Network
    cuts: tuple[int, ...]
    costs: dict[int, Cost]

    def block(self, cut: int) -> str:
        """Name of the last block on the device."""
        return list(dict(self.network.blocks.named_children()))[cut - 1]

    @property
    def is_text(self) -> bool:
        """Whether inputs are word numbers, of which words are guessed and no picture."""
        return are_numbered(self.dataset.x)


@dataclass
class Audited:
    """A finished audit: the run's folder, and what was read of its captures beside the attacks."""

    subject: Subject
    folder: Path
    readings: Readings


def audit(request: Request, out: Path, jobs: int, console: Console) -> Path:
    """Run an audit, print its table, and return the path of audit.html.

    Parameters
    ----------
    request : Request
    out : Path
        Folder in which the study file and the run's folder are made.
    jobs : int
        How many cells, and how many attacks, run at once.
    console : Console
        Where progress and the tables go.

    Raises
    ------
    StudyError, DataError
        Before anything starts: network, data, task, attribute or cut cannot be audited as asked.
    LaunchError
        A process failed.
    """
    from wireleak.lab.audit.report import report

    subject = examine(request)
    name = f"audit-{slug(request.model.rpartition(':')[2])}"
    listed = ", ".join(f"{cut} after {subject.block(cut)}" for cut in subject.network.cuts)
    console.print(f"[bold]{name}[/]: possible cuts: {listed}", highlight=False, soft_wrap=True)
    source = keep(out / f"{name}.toml", study_toml(subject, name))
    folder = run_study(str(source), out, data=request.root, jobs=jobs, table=False, console=console)
    readings = read_captures(
        folder, subject.cuts, tuple(subject.dataset.attributes), subject.is_text, request.quick, console
    )
    return report(Audited(subject, folder, readings), console)


def keep(path: Path, study: str) -> Path:
    """Write a study where its user can keep it, and return the path.

    Raises
    ------
    StudyError
        It cannot be written there.
    """
    try:
        write_atomically(path, study.encode())
    except OSError as error:
        raise StudyError(f"--out: cannot write {path}: {error.strerror}") from error
    return path


def words(text: str) -> tuple[str, ...]:
    """The parts of "a,b"."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def numbers(text: str) -> tuple[int, ...]:
    """The numbers of "1,3".

    Raises
    ------
    StudyError
        It holds something else.
    """
    try:
        return tuple(int(part) for part in words(text))
    except ValueError:
        raise StudyError(f"--cuts: {text!r} is no list of numbers; write them as 1,3") from None


def examine(request: Request) -> Subject:
    """Find and check all that an audit needs, before any process starts.

    Raises
    ------
    StudyError, DataError
        One line that names what is wrong and the fix.
    """
    source, options = _source(request)
    try:
        dataset = load(source, request.root, **options)
    except TypeError as error:  # an option's value of the wrong type
        raise DataError(f"{source}: --option: {error}") from error
    if request.task is not None and request.task != dataset.task:
        dataset = dataset.with_task(request.task)
    dataset = replace(dataset, attributes=_attributes(dataset, request.attributes))
    if len(dataset.classes) < 2:
        raise StudyError(f"--task: {dataset.task} has one class; name another")
    try:
        name = resolve(request.model)
        network = build(name, dataset.input_shape, len(dataset.classes), 0)
    except ValueError as error:
        raise StudyError(str(error)) from error
    cuts = _chosen(network, request)
    costs = {cut: device_cost(network, cut) for cut in cuts}
    return Subject(replace(request, model=name), dataset, source, options, network, cuts, costs)


def study_toml(subject: Subject, name: str) -> str:
    """The study that audits `subject`, as TOML."""
    import tomli_w

    request, quick = subject.request, subject.request.quick
    study: dict[str, Any] = {
        "name": name,
        "description": f"Audit of {Path(request.model).name} on {request.data}: what each cut gives away",
        "seeds": list(range(request.seeds)),
        "data": data_of(subject),
        "model": {"name": request.model},
        # Enough steps between two averages for the running statistics of batch normalisation to arrive.
        "system": {"rounds": 2 if quick else 3, "epochs": 3, "batch": 32},
        "serve": {"victim_batch": 1, "attacker_batch": 32},
        "tap": {"keep_training": False},
        "threat": {
            "vantage": "gateway",
            "sees": ["activation"],
            "knows": ["surrogate", "queries", "architecture", "weights"],
        },
        "variants": [
            {"name": f"cut-{cut}", "title": f"Cut {cut}, after {subject.block(cut)}", "cut": cut}
            for cut in subject.cuts
        ],
        "attacks": _attacks(subject),
    }
    return f"# Written by `wireleak audit`; change it and run it with `wireleak run`.\n{tomli_w.dumps(study)}"


def _attacks(subject: Subject) -> list[dict[str, Any]]:
    """Attackers on the input, of whom the strongest counts, and a probe for each attribute."""
    quick = subject.request.quick
    attacks: list[dict[str, Any]] = []
    if not subject.is_text:
        attacks.append(
            {"name": "inversion", "targets": ["input"], "untrained": "never" if quick else "first seed"}
            | ({"options": {"epochs": 15}} if quick else {})
        )
        options = {"epochs": 15} if quick else {}
        attacks.append({"name": "inverse-network", "targets": ["input"], "untrained": "never", "options": options})
        victims = sizes(subject)["victims"]
        for cut in [] if quick else subject.cuts:
            # Forward and backward cost three times what the device spends.
            steps = round(_SEARCH_FLOPS / (3 * max(subject.costs[cut].flops, 1) * victims))
            if steps >= _SEARCH_STEPS[0]:
                options = {"iterations": min(steps, _SEARCH_STEPS[1])}
                one = {"name": "rmle", "targets": ["input"], "untrained": "never", "options": options}
                attacks.append(one | {"variants": [f"cut-{cut}"]})
    # Where one vector a word crosses, words are read off one by one after the run.
    shapes = {cut: subject.network.activation_shape(cut) for cut in subject.cuts}
    mixed = [cut for cut, shape in shapes.items() if len(shape) != 2 or shape[0] != subject.dataset.input_shape[0]]
    if subject.is_text and mixed:
        one = {"name": "word-set", "targets": ["input"], "untrained": "never"}
        attacks.append(one | {"variants": [f"cut-{cut}" for cut in mixed], "options": {"model": "logistic"}})
    if subject.dataset.attributes:
        targets = list(subject.dataset.attributes)
        attacks.append({"name": "attributes", "targets": targets, "untrained": "never" if quick else "first seed"})
    return attacks


def data_of(subject: Subject) -> dict[str, Any]:
    """The `data` of a study on what the user asked for."""
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
    """Examples for each role: as many as serve, and no more than there are."""
    quick, count = subject.request.quick, len(subject.dataset)
    wanted = (
        {"train": 640, "evaluation": 160, "attacker": 500, "victims": 150}
        if quick
        else {"train": 2560, "evaluation": 400, "attacker": 1500, "victims": 400}
    )
    # Some room for repeated examples, which are dropped.
    share = min(1.0, 0.85 * count / sum(wanted.values()))
    sizes = {role: int(most * share) for role, most in wanted.items()}
    if sizes["train"] < 64 or sizes["victims"] < 20:
        raise DataError(f"--data: {count} examples are too few to audit with; give about 250 or more")
    return sizes


def _source(request: Request) -> tuple[str, dict[str, Any]]:
    """The data set's registry name and its options."""
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
        f"--data: {request.data!r} is no data set, folder or .csv file; choose one of {', '.join(data_names())}, "
        "a folder of images with a CSV, or a CSV of texts"
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
                f"--attributes: {name} has one class ({only}) in all {len(dataset)} examples; nothing can be learnt of "
                "it: leave it out"
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
            raise StudyError(f"--cuts: the network cannot be cut at {cut}; choose from {known}")
    return tuple(sorted(set(request.cuts)))


def slug(name: str) -> str:
    """`name` as a study may be called."""
    return "".join(one if one.isascii() and one.isalnum() else "-" for one in name.lower()).strip("-") or "network"
