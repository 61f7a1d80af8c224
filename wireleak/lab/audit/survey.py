"""Read every possible cut cheaply, in a process of its own and not off a wire, on a few of the examples.

Activations of all cuts come from one pass through the trained network. Each is read by ridge regression and by the
nearest neighbour. So cuts that are not served have a reading too, and attacks go where it leaves the most open.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from wireleak.common.files import named_config, write_arrays, write_json
from wireleak.common.measures.scores.registry import score_reconstruction
from wireleak.common.models import build
from wireleak.common.targets.baselines import nearest
from wireleak.common.targets.ridge import ridge
from wireleak.lab.audit.learning import pixels
from wireleak.lab.audit.readings import CutReading
from wireleak.lab.audit.subject import Subject
from wireleak.lab.launch.granted import jail_of
from wireleak.lab.launch.processes import Launcher, LaunchError
from wireleak.lab.run.division import DivisionSeed, divide
from wireleak.lab.study.schema import Study

# Examples of the attacker and of the victims that are read at most, and the fewest.
_MOST, _FEWEST = (128, 64), 16
_BATCH = 8
# Part of the time in which the network may compute activations. A late survey goes on for so many times its time, on
# the fewest examples, because every cut should have a reading.
_FORWARD, _LATE = 0.4, 2.0
_HELD = 6
Arrays = npt.NDArray[np.float32]


def survey(
    subject: Subject,
    study: Study,
    seed: DivisionSeed,
    weights: Path | None,
    folder: Path,
    launcher: Launcher,
    seconds: float,
) -> dict[int, CutReading]:
    """Read all possible cuts of a network, as many as there is time for.

    Parameters
    ----------
    subject : Subject
    study : Study
        Its first variant says how the data is divided.
    seed : int
        Seed of the division.
    weights : Path or None
        Weights of the whole network; None where its first weights are served, as with a frozen encoder.
    folder : Path
        Folder for the process's files. A reading that is there already is not repeated.
    launcher : Launcher
    seconds : float
        Time after which it stops with the cuts that it has.

    Raises
    ------
    LaunchError
        The process failed.
    """
    report = folder / "survey.json"
    if not (report.exists() and json.loads(report.read_text())["ended"]):
        report.unlink(missing_ok=True)
        roles = divide(study, subject.dataset, study.variants[0], seed).roles
        most = _rows(subject, seconds)
        arrays = {name: subject.dataset.x[rows[:count]] for (name, rows), count in zip(
            {"own": roles.attacker, "victims": roles.victims}.items(), most, strict=True
        )}  # fmt: skip
        examples = write_arrays(folder / "survey.npz", arrays)
        model = subject.model(study.seeds[0], weights)
        config = {"model": model, "examples": str(examples), "seconds": seconds, "report": str(report)}
        path = write_json(folder / "survey-config.json", config)
        argv, jail = ["-m", "wireleak.lab.audit.survey", "--config", str(path)], jail_of(path, config, folder)
        process = launcher.start("survey of all cuts", argv, folder / "survey.log", essential=False, jail=jail)
        try:
            launcher.finish(process, (_LATE + 0.5) * seconds + 30)
        except LaunchError:
            launcher.stop([process])
            if not report.exists():
                raise
        finally:
            examples.unlink()
    return {reading["cut"]: CutReading(**reading) for reading in json.loads(report.read_text())["cuts"]}


def _rows(subject: Subject, seconds: float) -> tuple[int, int]:
    """Return how many of the attacker's examples and of the victims fit in the time, and in a third of the memory."""
    widest = max(cost.floats for cost in subject.costs.values())
    # The activations before and after a block, in whole, and a block's copy.
    fit = subject.request.memory // 3 // (4 * (3 * widest + 4 * subject.pixels))
    if subject.speed is not None:
        fit = min(fit, math.floor(_FORWARD * seconds / max(subject.speed.predict, 1e-6)))
    share = min(1.0, max(fit, 2 * _FEWEST) / sum(_MOST))
    return max(_FEWEST, math.floor(share * _MOST[0])), max(_FEWEST, math.floor(share * _MOST[1]))


def read_all(config: dict[str, Any]) -> list[CutReading]:
    """Read the cuts of a network one after another until the time is over, and write each at once.

    Where time is short, later cuts are read on fewer examples.
    """
    began = time.monotonic()
    found: list[CutReading] = []
    network = build(**config["model"] | {"input_shape": tuple(config["model"]["input_shape"])})
    network.blocks.eval()
    with np.load(config["examples"], allow_pickle=False) as stored:
        own, victims = (pixels(stored[name]).numpy() for name in ("own", "victims"))
    value: Any = torch.from_numpy(np.concatenate([own, victims]))
    for cut, block in zip(network.cuts, network.blocks, strict=False):
        with torch.inference_mode():
            value = torch.cat([block(value[at : at + _BATCH]) for at in range(0, len(value), _BATCH)])
        found.append(_read(cut, value.numpy(), own, victims))
        _write(config, found, ended=False)
        spent, left = time.monotonic() - began, len(network.cuts) - len(found)
        if spent > _LATE * config["seconds"]:
            break
        share = max(0.0, config["seconds"] - spent) / max(left * spent / len(found), 1e-6)
        if share < 1:
            kept = [max(_FEWEST, math.floor(share * len(rows))) for rows in (own, victims)]
            value = torch.cat([value[: len(own)][: kept[0]], value[len(own) :][: kept[1]]])
            own, victims = own[: kept[0]], victims[: kept[1]]
    _write(config, found, ended=True)
    return found


def _write(config: dict[str, Any], found: list[CutReading], *, ended: bool) -> None:
    """Write the readings so far; a survey that was interrupted begins again."""
    write_json(Path(config["report"]), {"ended": ended, "cuts": [asdict(reading) for reading in found]})


def _read(cut: int, seen: npt.NDArray[Any], own: Arrays, victims: Arrays) -> CutReading:
    seen = seen.astype(np.float32, copy=False)
    asked = seen[len(own) :]
    decoder = ridge(seen[: len(own)], own, np.arange(len(own)) % _HELD == 0)
    rebuilt = np.clip(decoder.guess(asked).reshape(victims.shape), own.min(), own.max())
    readers = {"ridge": rebuilt, "nearest": nearest(seen[: len(own)], own, asked)}
    scores = {name: _scores(guess, victims) for name, guess in readers.items()}
    by = min(scores, key=lambda name: scores[name]["mse"].value)
    error, identity = scores[by]["mse"], max((one["reid"] for one in scores.values()), key=lambda score: score.value)
    prior = float(np.square(victims - own.mean(0)).mean())
    chance = 1 / len(victims) if identity.chance is None else identity.chance
    return CutReading(
        cut, len(own), len(victims), by, error.value, error.low, error.high, prior,
        identity.value, identity.low, identity.high, chance,
    )  # fmt: skip


def _scores(guess: Arrays, truth: Arrays) -> dict[str, Any]:
    scored = score_reconstruction(guess, truth, np.random.default_rng(0), ["mse", "reid"])
    return {score.measure: score for score in scored}


def main() -> None:
    """Read the cuts of the network that the file after `--config` describes."""
    torch.set_num_threads(1)
    read_all(named_config())


if __name__ == "__main__":
    main()
