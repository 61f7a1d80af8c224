"""Time an exported encoder's network in torch, for comparison with onnxruntime on the same machine."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from wireleak.common.config import ConfigError
from wireleak.common.models import build

_BATCHES = 30


def timing(folder: Path, batch: int, threads: int) -> dict[str, Any]:
    """Return when the first batch was done, peak memory, and the median seconds of a batch.

    The network has its first weights, which cost as much time as trained ones.

    Raises
    ------
    ConfigError
        The manifest cannot be read, or its network cannot be built here.
    """
    torch.set_num_threads(threads)
    try:
        held = json.loads((folder / "manifest.json").read_text())
        network = build(held["model"], tuple(held["input"]["shape"]), len(held["classes"]), 0)
        encoder, _ = network.split(held["cut"])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"ENCODER: {folder}: {' '.join(str(error).split())}; export it again") from error
    encoder.eval()
    inputs = torch.ones(batch, *held["input"]["shape"])
    seconds = []
    with torch.inference_mode():
        encoder(inputs)
        first = time.time()
        for _ in range(_BATCHES):
            began = time.perf_counter()
            encoder(inputs)
            seconds.append(time.perf_counter() - began)
    peak = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return {
        "first": first,
        "peak_bytes": 1024 * int(peak[0]),
        "batch_seconds": statistics.median(seconds),
        "batch": batch,
    }
