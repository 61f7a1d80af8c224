"""An attacker's work at the size of an audit, as ratios to well-kept libraries on the same data in the same run.

600 pairs of a MobileNetV2's first activation at 96 pixels (32 x 48 x 48) and its input. Ridge regression with six
strengths and held-out rows is compared with one fit of scikit-learn's KernelRidge, nearest neighbours with its brute
search, and a training step of a decoder with one of the whole MobileNetV2. Every work is a process of its own, on one
core; its memory is the peak above its data.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

PAIRS, VICTIMS, STEP = 600, 100, 16
ACTIVATION, IMAGE = (32, 48, 48), (3, 96, 96)
NARROW = (1280, 3, 3)


def run() -> list[dict[str, Any]]:
    found = {name: _measured(name) for name in WORKS}
    rows = []
    for ours, theirs, what in (
        ("ridge", "KernelRidge", "scikit-learn's KernelRidge, one strength"),
        ("nearest", "NearestNeighbors", "scikit-learn's brute search"),
        ("decoder", "MobileNetV2", "a training step of MobileNetV2"),
        ("progressive", "MobileNetV2", "a training step of MobileNetV2"),
    ):
        one, other = found[ours], found[theirs]
        for measure, unit in (("cpu", "CPU s"), ("memory", "MiB")):
            amount = f"{one[measure]:.2f} to {other[measure]:.2f}" if measure == "cpu" else f"{one[measure]:.0f} MiB"
            row = {"name": f"{ours}: {unit}", "ratio": one[measure] / other[measure], "target": "-"}
            rows.append(row | {"unit": f"x {what} ({amount})"})
    return rows


def _measured(name: str) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.audit_size", name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _data() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    x = rng.random((PAIRS + VICTIMS, *IMAGE), np.float32)
    z = rng.standard_normal((PAIRS + VICTIMS, *ACTIVATION), np.float32)
    return z[:PAIRS], x[:PAIRS], z[PAIRS:]


def _ridge() -> Callable[[], Any]:
    from wireleak.common.targets.ridge import ridge

    z, x, asked = _data()
    return lambda: ridge(z, x, np.arange(PAIRS) % 6 == 0).guess(asked)


def _kernel_ridge() -> Callable[[], Any]:
    from sklearn.kernel_ridge import KernelRidge

    z, x, asked = (one.reshape(len(one), -1) for one in _data())
    return lambda: KernelRidge(alpha=PAIRS).fit(z, x).predict(asked)


def _nearest() -> Callable[[], Any]:
    from wireleak.common.targets.baselines import nearest

    z, x, asked = _data()
    return lambda: nearest(z, x, asked)


def _neighbours() -> Callable[[], Any]:
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import StandardScaler

    z, _, asked = (one.reshape(len(one), -1) for one in _data())

    def search() -> Any:
        scaler = StandardScaler().fit(z)
        fitted = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(scaler.transform(z))
        return fitted.kneighbors(scaler.transform(asked), return_distance=False)

    return search


def _decoder(activation: tuple[int, ...]) -> Callable[[], Any]:
    import torch

    from adversary.attacks.harness.progressive import build_decoder

    return _step(build_decoder(activation, IMAGE, 1.0, torch.zeros(IMAGE)), torch.randn(STEP, *activation))


def _mobilenet() -> Callable[[], Any]:
    import torch
    from pytorchcv.model_provider import get_model

    return _step(get_model("mobilenetv2_w1", in_size=IMAGE[1:]).features[:-1], torch.rand(STEP, *IMAGE))


def _step(network: Any, inputs: Any) -> Callable[[], Any]:
    import torch

    optimiser = torch.optim.AdamW(network.parameters())

    def steps() -> None:
        for _ in range(5):
            optimiser.zero_grad()
            torch.autograd.backward(network(inputs).square().mean())
            optimiser.step()

    return steps


WORKS: dict[str, Callable[[], Callable[[], Any]]] = {
    "ridge": _ridge,
    "KernelRidge": _kernel_ridge,
    "nearest": _nearest,
    "NearestNeighbors": _neighbours,
    "decoder": lambda: _decoder(ACTIVATION),
    "progressive": lambda: _decoder(NARROW),
    "MobileNetV2": _mobilenet,
}


def main(name: str) -> None:
    """Do one work and print its CPU seconds and its memory above its data."""
    work = WORKS[name]()
    before, start = _peak(), time.process_time()
    work()
    print(json.dumps({"cpu": time.process_time() - start, "memory": max(_peak() - before, 1.0)}))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(sys.argv[1])
