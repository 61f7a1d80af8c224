"""Train the network of an audit in a process of its own, and check that it learnt its task."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from wireleak.common.files import write_arrays, write_json
from wireleak.lab.audit.learning import Learnt, Lesson
from wireleak.lab.audit.rows import percent
from wireleak.lab.audit.sizes import TRAINING, passes
from wireleak.lab.audit.studies import weights_of
from wireleak.lab.audit.subject import Subject
from wireleak.lab.launch.granted import jail_of
from wireleak.lab.launch.processes import Launcher
from wireleak.lab.run.division import DivisionSeed, divide
from wireleak.lab.run.seeds import Seeds
from wireleak.lab.study.schema import Study

_BATCH = 32
_LONGEST = 24 * 3600.0
_LATE = 1.2
_TRAINING_MEMORY = 0.4
# A network that is trained must beat the majority by this, and lose no more than this against itself uncut.
_ABOVE_MAJORITY, _BELOW_UNCUT = 0.05, 0.10

Outcomes = dict[int | None, list[Learnt]]


def learn(
    subject: Subject,
    study: Study,
    seeds: Seeds,
    folder: Path,
    launcher: Launcher,
    say: Callable[[str], None],
    left: float | None = None,
) -> Outcomes:
    """Train the network for each seed, uncut, and with a frozen encoder also the head of each cut.

    Parameters
    ----------
    subject : Subject
    study : Study
        Its first variant says how the data is divided.
    seeds : Seeds
        The run's seeds, by which it divides the data.
    folder : Path
        Folder for weights; networks that are there already are not trained again.
    launcher : Launcher
    say : callable
        Called with progress, a line at a time.
    left : float, optional
        Seconds of the budget that are left.

    Returns
    -------
    dict
        Outcomes by cut, one for each seed; None is the uncut network.

    Raises
    ------
    LaunchError
        The training failed.
    """
    request = subject.request
    cuts: list[int | None] = [None, *(subject.cuts if request.frozen_encoder else ())]
    found: Outcomes = {cut: [] for cut in cuts}
    for seed in study.seeds:
        jobs = [(cut, Path(weights_of(folder, cut).replace("{seed}", str(seed)))) for cut in cuts]
        if not all(path.with_suffix(".json").exists() for _, path in jobs):
            examples = deal(subject, study, seeds.division(seed), folder / f"examples-{seed}.npz")
            for cut, path in jobs:
                if not path.with_suffix(".json").exists():
                    share = None if left is None else left / (len(cuts) * len(study.seeds))
                    _train(_lesson(subject, seed, cut, examples, path, share), launcher, say)
            examples.unlink()
        for cut, path in jobs:
            found[cut].append(Learnt(**json.loads(path.with_suffix(".json").read_text())))
    return found


def doubts(outcomes: Outcomes) -> list[str]:
    """Return a sentence for each way in which the network did not learn its task; then no cut is recommended."""
    uncut = float(np.mean([one.accuracy for one in outcomes[None]]))
    majority = float(np.mean([one.majority for one in outcomes[None]]))
    said = []
    if uncut < majority + _ABOVE_MAJORITY * (1 - majority):
        said.append(
            f"The network did not learn its task: accuracy {percent(uncut)}, and {percent(majority)} for always "
            "guessing the commonest class. Its activations may leak less than those of a trained network; train it "
            "longer (--epochs, --lr) or give --weights."
        )
    for cut, learnt in outcomes.items():
        own = float(np.mean([one.accuracy for one in learnt]))
        if cut is not None and own < uncut - _BELOW_UNCUT:
            said.append(
                f"With a frozen encoder, cut {cut} reaches {percent(own)}; the whole network reaches {percent(uncut)}."
            )
    return said


def deal(subject: Subject, study: Study, seed: DivisionSeed, path: Path) -> Path:
    """Write the training and evaluation examples of a division."""
    dataset, roles = subject.dataset, divide(study, subject.dataset, study.variants[0], seed).roles
    arrays = {"x": dataset.x[roles.clients], "y": dataset.y[roles.clients]}
    held = {"evaluation_x": dataset.x[roles.evaluation], "evaluation_y": dataset.y[roles.evaluation]}
    write_arrays(path, arrays | held)
    return path


def _lesson(subject: Subject, seed: int, cut: int | None, examples: Path, weights: Path, share: float | None) -> Lesson:
    request = subject.request
    epochs, seconds = request.passes, None
    if share is not None and epochs:
        # Fewer passes where time is short; the time limit is for a machine that is slower than it seemed.
        if subject.speed is not None:
            epochs = passes(subject.counts, epochs, subject.speed, share)
        seconds = _LATE * TRAINING * share
    return Lesson(
        model=subject.model(seed),
        examples=str(examples),
        epochs=epochs,
        batch=_BATCH,
        memory=int(request.memory * _TRAINING_MEMORY),
        learning_rate=request.rate,
        cut=cut,
        seconds=seconds,
        weights=str(weights),
        report=str(weights.with_suffix(".json")),
    )


def _train(lesson: Lesson, launcher: Launcher, say: Callable[[str], None]) -> None:
    weights = Path(lesson.weights)
    config = write_json(weights.with_name(f"{weights.stem}-config.json"), asdict(lesson))
    # The user's code runs there.
    jail = jail_of(config, asdict(lesson), weights.parent)
    log = weights.with_suffix(".log")
    log.unlink(missing_ok=True)
    argv = ["-m", "wireleak.lab.audit.learning", "--config", str(config)]
    process = launcher.start(f"training {weights.stem}", argv, log, essential=False, jail=jail)
    said = ""
    say(f"training {weights.stem}: {lesson.epochs} epochs" if lesson.epochs else f"evaluating {weights.stem}")

    def ended() -> bool:
        nonlocal said
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        if lines and lines[-1] != said and lines[-1].startswith("epoch"):
            said = lines[-1]
            say(f"training {weights.stem}: {said}")
        return process.poll() is not None

    launcher.wait_until(ended, _LONGEST, process.name, log)
    launcher.finish(process, 1.0)
