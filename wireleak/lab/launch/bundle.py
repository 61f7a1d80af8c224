"""Wireleak as a Flower app: the files that Flower bundles for its nodes to download, and settings for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from wireleak import __version__
from wireleak.lab.launch.processes import LaunchError

Value = str | int | float | bool

# Files that a node downloads, relative to the folder where `wireleak` is installed (a checkout or site-packages).
APP_FILES = (
    "client/**/*.py",
    "server/**/*.py",
    "wireleak/__init__.py",
    "wireleak/common/**/*.py",
)
_APP_PROJECT = """\
[project]
name = "wireleak"
version = "{version}"
description = "Split and federated training of one model"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "wireleak"
fab-include = {files}

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"

[tool.flwr.app.config]
config = ""
nodes = ""
"""


def write_app(folder: Path) -> Path:
    """Write wireleak's own Flower app, as installed, to `folder` and return the folder.

    The app is written because an installed wheel has no project file, and a checkout holds far more than the apps.
    """
    root = Path(__file__).resolve().parents[3]
    if folder.exists():
        shutil.rmtree(folder)
    for pattern in APP_FILES:
        for source in root.glob(pattern):
            target = folder / source.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    project = _APP_PROJECT.format(version=__version__, files=json.dumps(APP_FILES))
    (folder / "pyproject.toml").write_text(project)
    return folder


def flower_config(config: Mapping[str, Value]) -> str:
    """Spell settings as Flower's command line takes them.

    Raises
    ------
    LaunchError
        A string holds a character that Flower cannot take.
    """
    for name, value in config.items():
        # Flower splits such a string by a pattern without escapes.
        if isinstance(value, str) and ('"' in value or "\\" in value or "\n" in value):
            raise LaunchError(f"{name}: Flower accepts no quote, backslash or newline in {value!r}; rename it")
    return " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in config.items())
