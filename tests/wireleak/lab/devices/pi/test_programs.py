"""The files that an emulated device gets are all that its program imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wireleak.lab.steps import devices, trainer

ROOT = Path(__file__).resolve().parents[5]
# Each module in turn, so that one which is imported only when it is needed is tried too.
IMPORTS = """
import importlib, pathlib
for path in sorted(pathlib.Path().rglob("*.py")):
    name = ".".join(path.with_suffix("").parts)
    if path.stem != "__main__":
        importlib.import_module(name.removesuffix(".__init__"))
        print(name)
"""


@pytest.mark.parametrize("program", [devices.PROGRAM, trainer.PROGRAM], ids=["serves", "trains"])
def test_every_module_of_a_devices_program_imports_only_what_the_device_gets(
    program: tuple[str, ...], tmp_path: Path
) -> None:
    for name in program:
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "web", "android"))
        else:
            shutil.copy(source, target)
    found = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=tmp_path, env=found, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 10
