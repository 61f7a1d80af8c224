"""`wireleak-device --benchmark`: installed size, start, memory and time of a batch, with torch's where it is installed.

Each is measured in a process of its own: this module for onnxruntime, `python -m client timing` for torch.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from client.device.model.encoder import Encoder
from client.device.model.errors import DeviceError
from client.device.model.manifest import Manifest, read_manifest

_WIRE = ("wireleak", "grpcio", "protobuf", "numpy")
_BATCHES = 30
_ROOT = Path(__file__).resolve().parents[2]


def benchmark(folder: Path, batch: int, threads: int) -> list[dict[str, Any]]:
    """Measure onnxruntime, and torch where it is installed.

    Returns
    -------
    list of dict
        "runtime", "installed_bytes", "start_seconds" (to the first activations), "peak_bytes", "batch_seconds" (median)
        and "batch".

    Raises
    ------
    DeviceError
        A process failed.
    """
    read_manifest(folder)
    asked = [str(folder.resolve()), str(batch), str(threads)]
    rows = [_measured("onnxruntime", ["client.device.benchmark", *asked])]
    if find_spec("torch") is not None:
        rows.append(_measured("torch", ["client", "timing", *asked]))
    return rows


def shown(rows: list[dict[str, Any]]) -> str:
    """Return the figures as a table."""
    lines = [
        ("", *(row["runtime"] for row in rows)),
        ("installed", *(f"{row['installed_bytes'] / 1e6:.0f} MB" for row in rows)),
        ("start to first batch", *(f"{row['start_seconds']:.2f} s" for row in rows)),
        ("peak memory", *(f"{row['peak_bytes'] / 2**20:.0f} MiB" for row in rows)),
        (f"batch of {rows[0]['batch']}, median", *(f"{1000 * row['batch_seconds']:.2f} ms" for row in rows)),
    ]
    return "\n".join(f"{name:24}" + "".join(f"{value:>14}" for value in values) for name, *values in lines)


def _measured(runtime: str, argv: list[str]) -> dict[str, Any]:
    began = time.time()
    # -P: a file client.py of the working folder must not run in place of this package.
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-P", "-m", *argv]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    if done.returncode:
        line = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DeviceError(f"--benchmark: {runtime} failed: {line}")
    told = json.loads(done.stdout)
    return {
        "runtime": runtime,
        "installed_bytes": sum(_installed({runtime, *_WIRE}).values()),
        "start_seconds": told["first"] - began,
        **{name: told[name] for name in ("peak_bytes", "batch_seconds", "batch")},
    }


def _installed(names: set[str]) -> dict[str, int]:
    """Bytes on disk of packages and of all that they require, by name; extras and absent packages do not count."""
    sizes: dict[str, int] = {}
    waiting = {name.lower() for name in names}
    while waiting:
        name = waiting.pop()
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        paths = [Path(str(file.locate())) for file in package.files or ()]
        sizes[name] = sum(path.stat().st_size for path in paths if path.is_file())
        for requirement in package.requires or ():
            wanted = re.split(r"[^A-Za-z0-9._-]", requirement)[0].lower()
            if "extra ==" not in requirement and wanted not in sizes:
                waiting.add(wanted)
    return sizes


def _peak_bytes() -> int:
    """Largest resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return 0


def _inputs(manifest: Manifest, batch: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.ones((batch, *manifest.shape), np.float32)


def _work(folder: Path, batch: int, threads: int) -> dict[str, Any]:
    manifest = read_manifest(folder)
    encoder, inputs = Encoder(manifest, threads), _inputs(manifest, batch)
    encoder(inputs)
    first = time.time()
    seconds = []
    for _ in range(_BATCHES):
        began = time.perf_counter()
        encoder(inputs)
        seconds.append(time.perf_counter() - began)
    return {"first": first, "peak_bytes": _peak_bytes(), "batch_seconds": float(np.median(seconds)), "batch": batch}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", sys.argv[3])
    print(json.dumps(_work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
