"""Measure the private information in each layer of a trained network, with an analyst's access to a finished run.

This is not an attack. The network is rebuilt from the run's last checkpoints and gets the victims' inputs and private
attributes from the sealed ledger. So every layer can be measured, also those that never cross a wire.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from rich.console import Console
from rich.progress import track

from wireleak.common.files import write_json
from wireleak.common.measures.readers.distance_correlation import DistanceCorrelation, distance_correlation_test
from wireleak.common.measures.readers.reading import Reading
from wireleak.common.measures.readers.usable_information import UsableInformation, usable_information
from wireleak.common.measures.scores.registry import get
from wireleak.common.measures.statistics.bootstrap import mean_score
from wireleak.common.measures.statistics.permutation import null_orders
from wireleak.common.measures.statistics.tsne import tsne_map
from wireleak.lab.launch.watch import Work, working
from wireleak.lab.layers.kept import Kept
from wireleak.lab.run.opening import Layer, ReadLabel, Specimen, open_run

Rows = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
# Wider layers are also measured after a projection to this many features, so that none wins by its width.
EQUAL = 512
INPUT = "input"
TASK_ALONE = "task label alone"
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Parameters
    ----------
    layer : str
        Layer's name, or `TASK_ALONE`.
    target : str
        The task, a private attribute, or "input".
    network : {"trained", "untrained"}
    measure : {"auc", "accuracy", "bits", "bits-512", "dcor", "dcor2-corrected"}
        `bits` is V-information.
    value : float
    low, high : float or None
        95 % bootstrap interval over rows, if any.
    null_mean, null_high : float or None
        Mean and largest value under permuted labels (permuted rows for the input), if any were drawn.
    p : float or None
        Share of the null that reaches the value, with the value itself counted.
    family : str
        The reader that was chosen in most folds, if the measure has one.
    share : float or None
        For `bits`: share of the label's entropy.
    """

    layer: str
    target: str
    network: str
    measure: str
    value: float
    low: float | None = None
    high: float | None = None
    null_mean: float | None = None
    null_high: float | None = None
    p: float | None = None
    family: str = ""
    share: float | None = None


def profile_layers(
    run: Path,
    variant: str | None,
    seed: int | None,
    *,
    examples: int,
    permutations: int,
    group: str | None,
    jobs: int,
    resume: bool = False,
    console: Console,
) -> Path:
    """Write `layers.json` and `layers.html` into a cell's folder and return the page.

    Parameters
    ----------
    run : Path
        A finished run's folder.
    variant, seed : str or int, optional
        The cell; the default is the first that finished.
    examples : int
        Largest number of victims' inputs to use, from the first on.
    permutations : int
        Random permutations behind each null.
    group : str, optional
        Group whose values never appear in both training and test folds; the default is `data.disjoint_by`.
    jobs : int
        Number of processes that measure at once.
    resume : bool
        Go on with the measurements that an interrupted call with the same options has kept.
    console : Console
        Output for progress and the result table.

    Raises
    ------
    StudyError
        The run is not finished, or it has no such cell, or the cell has nothing to measure.
    """
    from wireleak.lab.layers.page import summary_table, write_page

    with working(console) as work:
        with work.on("computing the activations of each layer"):
            specimen = open_run(run, variant, seed, examples, group)
            layers = specimen.layers(trained=True)
            parts = [*_works(specimen, layers, "trained", permutations)]
            parts += _works(specimen, specimen.layers(trained=False)[1:], "untrained", 0)
        asked = {**specimen.described(), "permutations": permutations}
        with _stoppable():
            kept = Kept(specimen.cell.layers.with_suffix(".partial"), asked, resume)
            left = [part for part in parts if part.name not in kept.figures]
            for part, found in zip(left, _in_parallel(left, jobs, "measuring layers", work, console), strict=True):
                kept.add(part.name, [asdict(one) for one in found])
            figures = [figure for part in parts for figure in kept.figures[part.name]]
            maps = [partial(tsne_map, layer.features, specimen.seed) for layer in layers]
            places = list(_in_parallel(maps, jobs, "drawing maps of layers", work, console))
    document = {
        "view": "analyst: the network is rebuilt from the run's checkpoints, and the victims' inputs and attributes "
        "come from the sealed ledger; no attacker has this",
        **specimen.described(),
        "permutations": permutations,
        "layers": [layer.described() for layer in layers],
        "targets": [target.described() for target in specimen.targets],
        "figures": figures,
        "labels": {target.name: target.labels.tolist() for target in specimen.targets},
        "maps": {layer.name: places[at].tolist() for at, layer in enumerate(layers)},
    }
    write_json(specimen.cell.layers, document)
    kept.end()
    page = write_page(specimen.cell)
    console.print(summary_table(document))
    console.print(f"layers: {page}", soft_wrap=True, highlight=False)
    return page


def _works(
    specimen: Specimen, layers: list[Layer], network: str, permutations: int
) -> Iterator[_Read | _DependOnInput]:
    groups, seed = specimen.groups, specimen.seed
    inputs = specimen.inputs()
    for layer in layers:
        for target in specimen.targets:
            yield _Read(layer.name, layer.features, target, network, groups, permutations, seed)
        yield _DependOnInput(layer.name, layer.features, inputs, network, permutations, seed)
    if network == "trained":
        task = specimen.targets[0]
        for target in specimen.targets[1:]:
            yield _Read(TASK_ALONE, task.one_hot(), target, network, groups, 0, seed)


@dataclass(frozen=True)
class _Read:
    """The measurements of one label in one layer."""

    layer: str
    features: Rows
    target: ReadLabel
    network: str
    groups: Ints | None
    permutations: int
    seed: int

    @property
    def name(self) -> str:
        """Its name among all measurements of a network."""
        return f"{self.network}/{self.layer}/{self.target.name}"

    def __call__(self) -> list[Figure]:
        """Return probe scores, V-information and distance correlation."""
        labels = self.target.labels
        rng = np.random.default_rng(self.seed)
        options: dict[str, Any] = {"groups": self.groups, "seed": self.seed}
        found = usable_information(self.features, labels, permutations=self.permutations, **options)
        figures = self._of_reader(found, rng)
        if self.layer == TASK_ALONE:
            return figures
        if self.network == "trained" and self.features.shape[1] > EQUAL:
            equal = usable_information(self.features, labels, permutations=0, dimension=EQUAL, **options)
            figures.append(self._bits(f"bits-{EQUAL}", equal, rng))
        orders = null_orders(labels, self.groups, self.permutations, rng)
        depends = distance_correlation_test(self.features, self.target.one_hot(), orders)
        return figures + _of_distance_correlation(self.layer, self.target.name, self.network, depends)

    def _of_reader(self, found: UsableInformation, rng: np.random.Generator) -> list[Figure]:
        hit = found.reading.probabilities.argmax(axis=1) == self.target.labels
        auc = get("auc")(found.reading.evidence, self.target.labels, rng)
        hits = mean_score("accuracy", hit, rng)
        null = _null(auc.value, [_auc(drawn) for drawn in found.null])
        return [
            self._figure("auc", auc.value, low=auc.low, high=auc.high, family=found.family, **null),
            self._figure("accuracy", hits.value, low=hits.low, high=hits.high, family=found.family),
            self._bits("bits", found, rng),
        ]

    def _bits(self, measure: str, found: UsableInformation, rng: np.random.Generator) -> Figure:
        score = mean_score(measure, found.reading.gains, rng)
        null = _null(found.bits, [drawn.bits for drawn in found.null])
        ends = {"low": score.low, "high": score.high}
        return self._figure(measure, found.bits, **ends, family=found.family, share=found.share, **null)

    def _figure(self, measure: str, value: float, **more: Any) -> Figure:
        return Figure(self.layer, self.target.name, self.network, measure, value, **more)


@dataclass(frozen=True)
class _DependOnInput:
    """The dependence of one layer on the whole input."""

    layer: str
    features: Rows
    inputs: Rows
    network: str
    permutations: int
    seed: int

    @property
    def name(self) -> str:
        """Its name among all measurements of a network; no attribute has a name with a colon."""
        return f"{self.network}/{self.layer}/:{INPUT}"

    def __call__(self) -> list[Figure]:
        rng = np.random.default_rng(self.seed)
        orders = null_orders(np.arange(len(self.inputs)), None, self.permutations, rng)
        return _of_distance_correlation(
            self.layer, INPUT, self.network, distance_correlation_test(self.features, self.inputs, orders)
        )


def _of_distance_correlation(layer: str, target: str, network: str, found: DistanceCorrelation) -> list[Figure]:
    null = _null(found.value, list(found.null))
    return [
        Figure(layer, target, network, "dcor", found.value, **null),
        Figure(layer, target, network, "dcor2-corrected", found.corrected),
    ]


def _null(value: float, drawn: list[float]) -> dict[str, Any]:
    if not drawn:
        return {}
    reached = (1 + sum(one >= value for one in drawn)) / (1 + len(drawn))
    return {"null_mean": float(np.mean(drawn)), "null_high": max(drawn), "p": reached}


def _auc(reading: Reading) -> float:
    from sklearn.metrics import roc_auc_score

    present = [1] if reading.evidence.shape[1] == 2 else np.unique(reading.labels)
    each = [roc_auc_score(reading.labels == k, reading.evidence[:, k]) for k in present]
    return float(np.mean(each))


def _in_parallel(
    parts: Iterable[Callable[[], Any]], jobs: int, what: str, work: Work, console: Console
) -> Iterator[Any]:
    from joblib import Parallel, delayed  # type: ignore[import-untyped]

    tasks, done = list(parts), 0
    work.state = lambda: f"{what}: {done} of {len(tasks)}"
    found = Parallel(n_jobs=jobs, return_as="generator")(delayed(_call)(one, os.getpid()) for one in tasks)
    shown = track(found, what, total=len(tasks), console=console, disable=not console.is_terminal, transient=True)
    for one in shown:
        done += 1
        yield one


@contextmanager
def _stoppable() -> Iterator[None]:
    """At Ctrl-C, end the workers and say how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        _kill_workers()
        raise KeyboardInterrupt("go on with the same options and --resume") from None


def _kill_workers() -> None:
    """End joblib's workers, which would otherwise finish what they measure after Ctrl-C."""
    workers = []
    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            if "popen_loky" in " ".join(child.cmdline()):
                child.kill()
                workers.append(child)
    psutil.wait_procs(workers, timeout=5)


def _call(part: Callable[[], Any], command: int) -> Any:
    """Measure, in a worker that ends with the process of the command (Linux)."""
    if os.getpid() != command and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return part()
