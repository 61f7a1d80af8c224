"""A whole audit of MobileNetV2 at 96 pixels within a budget: its time, memory and CPU seconds, as parts of its limits.

600 pictures of a disc or a square are written to a folder. The audit trains the network, serves cuts through the tap,
attacks them and reports. Its time is compared with its budget, its memory with `--memory`, and its CPU seconds with two
cores for the whole budget.
"""

from __future__ import annotations

import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PICTURES, SIDE = 600, 96
BUDGET, MEMORY, CORES = 300, 4 * 2**30, 2
NETWORK = """
from pytorchcv.model_provider import get_model
from torch import nn


def make(classes):
    network = get_model("mobilenetv2_w1", num_classes=classes)
    # Its last pooling is of 224 pixels.
    network.features.final_pool = nn.AdaptiveAvgPool2d(1)
    return network
"""


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _write_pictures(folder / "photos")
        (folder / "net.py").write_text(NETWORK)
        line = [
            sys.executable,
            "-m",
            "wireleak",
            "audit",
            f"{folder / 'net.py'}:make",
            "--data",
            str(folder / "photos"),
        ]
        line += ["--task", "shape", "--option", f"size={SIDE}", "--option", "grey=false", "--quick", "--json"]
        line += ["--budget", f"{BUDGET}s", "--memory", f"{MEMORY >> 30}G", "--out", str(folder / "runs")]
        before, began = _cpu(), time.monotonic()
        done = subprocess.run(line, capture_output=True, text=True)
        spent, seconds = _cpu() - before, time.monotonic() - began
    if done.returncode:
        raise RuntimeError(f"the audit ended with status {done.returncode}: {done.stderr.strip().splitlines()[-1]}")
    figures = json.loads(done.stdout)
    peak = figures["peak_bytes"]
    trained = sum(cut["reconstruction"] is not None for cut in figures["cuts"])
    read = trained + sum(cut["survey"] is not None for cut in figures["unserved"])
    cuts = len(figures["cuts"]) + len(figures["unserved"])
    return [
        _row("time", seconds / BUDGET, f"x its budget ({seconds:.0f} s of {BUDGET} s)"),
        _row("memory", peak / MEMORY, f"x its limit (peak {peak / 2**30:.2f} GiB of all processes)"),
        _row("CPU", spent / (CORES * BUDGET), f"x {CORES} cores for its budget ({spent:.0f} CPU s)"),
        _row("cuts without a reading", 1 - read / cuts, f"of {cuts} cuts", "0"),
    ]


def _row(name: str, ratio: float, unit: str, target: str = "<= 1") -> dict[str, Any]:
    return {"name": f"MobileNetV2 at {SIDE} px: {name}", "ratio": ratio, "target": target, "unit": unit}


def _write_pictures(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "shape", "tint"])
        for number in range(PICTURES):
            disc, warm = bool(rng.integers(2)), bool(rng.integers(2))
            coarse = (rng.random((6, 6, 3)) * 150 + 30).astype(np.uint8)
            picture = np.array(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
            picture[..., 0 if warm else 2] |= 64
            radius, (x, y) = 20, rng.integers(22, SIDE - 22, 2)
            reach = np.hypot(across - x, down - y) if disc else np.maximum(abs(across - x), abs(down - y))
            picture[reach < radius] = rng.integers(0, 256, 3)
            Image.fromarray(picture).save(folder / f"{number}.jpg", quality=92)
            table.writerow([f"{number}.jpg", "disc" if disc else "square", "warm" if warm else "cold"])


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
