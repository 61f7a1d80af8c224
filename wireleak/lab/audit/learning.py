"""Train a whole network on a party's data, as a process: `python -m wireleak.lab.audit.learning --config F`.

An audit trains the network once, uncut, and serves the same weights at every cut. So cuts differ in nothing but the
place of the cut. Config: the fields of `Lesson`, as JSON.
"""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from wireleak.common.files import named_config, write_json
from wireleak.common.models import Network, build, save_weights
from wireleak.common.models.training import Training
from wireleak.common.plan import ClientPlan
from wireleak.lab.audit.sizes import Speed

_SPEAK_SECONDS = 5.0
_EVALUATION_BATCH = 16
_MEASURED = 4


@dataclass(frozen=True)
class Lesson:
    """How one network is trained.

    Parameters
    ----------
    model : dict
        Name, input_shape, classes, seed and weights, as arguments of `wireleak.common.models.build`.
    examples : str
        .npz file with `x` and `y`, and `evaluation_x` and `evaluation_y`; pixels may be uint8.
    epochs, batch, learning_rate : int, int, float
        Training of the whole network with Adam; batches are smaller where memory is short.
    memory : int
        Bytes that one training step may take.
    cut : int or None
        Blocks before this cut are frozen; None trains all.
    seconds : float or None
        Time after which training stops where it is.
    weights, report : str
        Files for the trained weights, under the author's names, and for `Learnt`.
    """

    model: dict[str, Any]
    examples: str
    epochs: int
    batch: int
    memory: int
    learning_rate: float
    cut: int | None
    seconds: float | None
    weights: str
    report: str


@dataclass(frozen=True)
class Learnt:
    """The outcome of a lesson; `passes` counts the epochs that were done, as a fraction where time was short."""

    accuracy: float
    majority: float
    passes: float
    epochs: int
    loss: float
    seconds: float


def train(lesson: Lesson) -> Learnt:
    """Train, write the weights, and return the outcome; progress goes to stdout."""
    began = time.monotonic()
    network = build(**lesson.model | {"input_shape": tuple(lesson.model["input_shape"])})
    with np.load(lesson.examples, allow_pickle=False) as stored:
        x, y, evaluation, truth = (stored[name] for name in ("x", "y", "evaluation_x", "evaluation_y"))
    if lesson.epochs:
        speed = Speed(**measure(network))
        lesson = replace(lesson, batch=speed.batch(lesson.batch, lesson.memory))
    passes, loss = _steps(network, lesson, x, y, began) if lesson.epochs else (0.0, math.nan)
    accuracy = float(np.mean(predicted(network.blocks, evaluation) == truth))
    majority = float(np.bincount(truth).max() / len(truth))
    save_weights(network.whole, Path(lesson.weights))
    return Learnt(accuracy, majority, passes, lesson.epochs, loss, time.monotonic() - began)


def _steps(
    network: Network, lesson: Lesson, x: npt.NDArray[Any], y: npt.NDArray[np.int64], began: float
) -> tuple[float, float]:
    """Return how many passes were done, and the mean loss of the last one."""
    frozen, trained = network.split(lesson.cut) if lesson.cut is not None else (nn.Identity(), network.blocks)
    frozen.eval()
    trained.train()
    optimiser = torch.optim.Adam(trained.parameters(), lr=lesson.learning_rate)
    plan = ClientPlan(epochs=lesson.epochs, batch=lesson.batch, learning_rate=lesson.learning_rate)
    seen, spoke, losses = 0, began, []
    for rows in Training(plan, (int(lesson.model["seed"]),)).batches(len(x)):
        with torch.no_grad():
            features = frozen(pixels(x[rows]))
        loss = cross_entropy(trained(features), torch.from_numpy(y[rows]))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        seen += len(rows)
        losses.append(loss.item() * len(rows))
        now = time.monotonic()
        if now - spoke > _SPEAK_SECONDS:
            spoke = now
            print(f"epoch {seen / len(x):.1f} of {lesson.epochs}, loss {loss.item():.3f}", flush=True)
        if lesson.seconds is not None and now - began > lesson.seconds:
            break
    steps = max(1, min(len(losses), math.ceil(len(x) / lesson.batch)))
    return seen / len(x), float(np.sum(losses[-steps:]) / min(seen, len(x)))


def measure(network: Network) -> dict[str, float]:
    """Return the seconds that one image takes to train on and to predict, and the bytes that it takes to train on.

    Torch is left with the number of threads that is fastest: small networks train faster on one thread than on all.
    """
    x, y = torch.zeros(_MEASURED, *network.input_shape), torch.zeros(_MEASURED, dtype=torch.int64)
    modes = {name: value.detach().clone() for name, value in network.whole.state_dict().items()}

    def step() -> None:
        cross_entropy(network.blocks.train()(x), y).backward()

    cross_entropy(network.blocks.train()(x[:2]), y[:2]).backward()  # gradients are allocated once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = {}
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        torch.set_num_threads(threads)
        seconds[threads] = min(_timed(step))
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    torch.set_num_threads(1)
    with torch.inference_mode():
        predict_seconds = min(_timed(lambda: network.blocks.eval()(x)))
    # The steps changed no weights, but the running statistics of normalisations.
    network.whole.load_state_dict(modes)
    network.whole.zero_grad(set_to_none=True)
    fastest = min(seconds, key=lambda threads: seconds[threads])
    torch.set_num_threads(fastest)
    # The first two images of the four had their memory before.
    memory = grown / (_MEASURED - 2)
    return {"train": seconds[fastest] / _MEASURED, "predict": predict_seconds / _MEASURED, "memory": memory}


def _timed(work: Any) -> Iterator[float]:
    for _ in range(2):
        began = time.perf_counter()
        work()
        yield time.perf_counter() - began


def predicted(network: nn.Module, x: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the class that a network predicts for each input."""
    network.eval()
    with torch.inference_mode():
        parts = [network(pixels(x[at : at + _EVALUATION_BATCH])) for at in range(0, len(x), _EVALUATION_BATCH)]
    return torch.cat(parts).argmax(1).numpy()


def pixels(x: npt.NDArray[Any]) -> torch.Tensor:
    """Return inputs as float32; 8-bit pixels become [0, 1]."""
    values = torch.from_numpy(x)
    return values.float() / 255 if x.dtype == np.uint8 else values


def main() -> None:
    """Train as the file after `--config` says, or measure the speed of the model in it."""
    config = named_config()
    if "examples" not in config:
        network = build(**config["model"] | {"input_shape": tuple(config["model"]["input_shape"])})
        write_json(Path(config["report"]), measure(network))
        return
    lesson = Lesson(**config)
    write_json(Path(lesson.report), asdict(train(lesson)))


if __name__ == "__main__":
    main()
