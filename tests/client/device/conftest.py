"""An exported encoder, and a head in this process that holds the other stage."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.device.__main__ import main
from client.device.model.manifest import checksum
from wireleak.common.models import build
from wireleak.lab.devices.export import Own, export_network

# As the head in `tests/client/conftest.py`.
OWN: dict[str, Any] = {
    "model": "strided28", "cut": 2, "input_shape": (1, 28, 28), "classes": ("a", "b", "c"), "seed": 5
}  # fmt: skip


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., Path]:
    """Export the first weights of a network."""

    def write(name: str = "own", **changes: Any) -> Path:
        return export_network(Own(**OWN | changes), tmp_path / name).folder

    return write


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_network(Own(**OWN), tmp_path_factory.mktemp("exported") / "encoder").folder


@pytest.fixture
def encoder(exported: Path, tmp_path: Path) -> Path:
    """An export of a test's own."""
    return Path(shutil.copytree(exported, tmp_path / "encoder"))


@pytest.fixture
def rewrite() -> Callable[..., Path]:
    """Change an export's manifest, and sign it as `wireleak export` does."""

    def change(folder: Path, **changes: Any) -> Path:
        path = folder / "manifest.json"
        held = json.loads(path.read_text()) | changes
        path.write_text(json.dumps(held | {"sha256": checksum(held)}))
        return folder

    return change


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """20 inputs, as the array "x" of a .npz."""
    np.savez(tmp_path / "pictures.npz", x=np.random.default_rng(2).random((20, 1, 28, 28), dtype=np.float32))
    return tmp_path / "pictures.npz"


@pytest.fixture
def expected(pictures: Path) -> np.ndarray:
    """Probabilities (20, 3) that torch computes for the pictures."""
    network = build("strided28", (1, 28, 28), 3, 5).blocks.eval()
    with torch.inference_mode(), np.load(pictures) as held:
        answers: torch.Tensor = network(torch.from_numpy(held["x"]))
        return answers.softmax(dim=1).numpy()


@pytest.fixture
def device(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Any]]:
    """Run `wireleak-device` in this process: (exit status, output, errors)."""
    handler = signal.getsignal(signal.SIGTERM)

    def run(*argv: Any) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            main([*map(str, argv)])
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return status, *capfd.readouterr()

    yield run
    signal.signal(signal.SIGTERM, handler)
