"""Wireleak as a Flower app: the files that Flower bundles for its nodes to download."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from wireleak import __version__

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
