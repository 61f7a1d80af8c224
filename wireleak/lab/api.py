"""The functions `wireleak.run`, `wireleak.audit` and `wireleak.read_results`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w
from rich.console import Console

from wireleak.common.files import write_atomically
from wireleak.lab.audit.audit import audit as run_audit
from wireleak.lab.audit.subject import Request
from wireleak.lab.run.results import Results
from wireleak.lab.run.results import read_results as results_of
from wireleak.lab.steps.run import run_study


def run(
    study: str | Path | Mapping[str, Any],
    *,
    out: str | Path = "runs",
    resume: str | Path | None = None,
    root: str | Path | None = None,
    seeds: int | None = None,
    secret: str | Path | None = None,
    jobs: int = 2,
    quiet: bool = False,
) -> Path:
    """Run a study: launch, capture, attack, score, report.

    Parameters
    ----------
    study : str, Path or mapping
        A name that `wireleak studies` lists, a TOML file, or a study's tables. Tables are written to
        ``<out>/<name>.toml``.
    out : str or Path
        Folder in which the run's folder is made.
    resume : str or Path, optional
        An interrupted run's folder: finished cells and attacks are not repeated.
    root : str or Path, optional
        Folder that holds data sets.
    seeds : int, optional
        Run with seeds 0 to seeds - 1 instead of the study's.
    secret : str or Path, optional
        File with the secret of another run (its sealed/secret), to repeat all its draws.
    jobs : int
        Number of cells, and of attacks, that run at once.
    quiet : bool
        Print nothing.

    Returns
    -------
    Path
        The run's folder, for `read_results`; its report.html shows all results.

    Raises
    ------
    ValueError
        The study cannot run as declared: one line that names the field and the fix.
    RuntimeError
        A process failed; the message says where the captures are.
    """
    folder = Path(out)
    source = str(_kept(study, folder)) if isinstance(study, Mapping) else str(study)
    return run_study(
        source,
        folder,
        resume=_path(resume),
        data=_path(root),
        seeds=seeds,
        secret=_path(secret),
        jobs=jobs,
        console=Console(quiet=quiet),
    )


def audit(
    model: str,
    data: str,
    *,
    task: str | None = None,
    attributes: Sequence[str] | None = None,
    cuts: Sequence[int] | None = None,
    options: Mapping[str, Any] | None = None,
    disjoint_by: str | None = None,
    seeds: int = 1,
    quick: bool = False,
    root: str | Path | None = None,
    weights: str | Path | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    frozen_encoder: bool = False,
    budget: float | None = None,
    memory: int = 4 * 2**30,
    resume: str | Path | None = None,
    out: str | Path = "runs",
    jobs: int = 2,
    quiet: bool = False,
) -> Path:
    """Attack your own network at each cut, and compare the cuts.

    Parameters
    ----------
    model : str
        "module:factory" or "file.py:factory": a function that builds the network.
    data : str
        A data set's name, a folder of images with a CSV, or a CSV of texts.
    task : str, optional
        Column or attribute that the network learns.
    attributes, cuts : sequence, optional
        Attributes and cuts to audit; by default every attribute, and up to six cuts.
    options : mapping, optional
        The data set's own options.
    disjoint_by : str, optional
        Group (an author, a person). Clients, attacker and victims share none of its values.
    seeds : int
        Run with seeds 0 to seeds - 1.
    quick : bool
        Use fewer examples, rounds and attackers, for a first look.
    root : str or Path, optional
        Folder that holds data sets.
    weights : str or Path, optional
        Trained weights: safetensors, or a torch state dict.
    epochs : int, optional
        Passes over the training data; by default 0 with `weights`.
    learning_rate : float, optional
        Learning rate of the training.
    frozen_encoder : bool
        Train only the blocks after the cut.
    budget : float, optional
        Seconds in which the audit ends; it then attacks where that decides most.
    memory : int
        Bytes of memory for all processes together.
    resume : str or Path, optional
        Folder of an interrupted audit, to go on with.
    out : str or Path
        Folder in which the study's file and the run's folder are made.
    jobs : int
        Number of cells, and of attacks, that run at once.
    quiet : bool
        Print nothing.

    Returns
    -------
    Path
        The audit's page, audit.html, in the run's folder.

    Raises
    ------
    ValueError
        The network, data, task, attribute or cut cannot be audited: one line with the fix.
    RuntimeError
        A process failed.
    """
    chosen = None if attributes is None else tuple(attributes)
    places = None if cuts is None else tuple(cuts)
    given = tuple(f"{name}={value}" for name, value in (options or {}).items())
    request = Request(model, data, task, chosen, places, given, disjoint_by, seeds, quick, _path(root))
    request = replace(
        request,
        weights=None if weights is None else Path(weights).absolute(),
        epochs=epochs,
        learning_rate=learning_rate,
        frozen_encoder=frozen_encoder,
        budget=budget,
        memory=memory,
    )
    return run_audit(request, Path(out), jobs, Console(quiet=quiet), _path(resume))


def read_results(run: str | Path) -> Results:
    """Read the results in a run's folder: `.rows` is a list of objects, `.frame()` a pandas table.

    Raises
    ------
    ValueError
        The folder holds no results, or their version cannot be read.
    """
    return results_of(Path(run))


def _kept(tables: Mapping[str, Any], out: Path) -> Path:
    """Write a study's tables to a TOML file."""
    path = out / f"{tables.get('name', 'study')}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, tomli_w.dumps(dict(tables)).encode())
    return path


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
