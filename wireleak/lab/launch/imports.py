"""Keep the user's working folder out of the imports of this process and of every process that it starts.

`python -m MODULE` puts the working folder first on the import path, and so does an empty entry of PYTHONPATH. A file of
the user's that is called `client.py` or `torch.py` would then run instead of the package. This module runs before any
other import, so it imports nothing that the interpreter has not loaded already.
"""

from __future__ import annotations

import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120


def safe_environment() -> dict[str, str]:
    """Return the variables with which a Python process imports this wireleak and nothing of its working folder."""
    named = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]  # noqa: PTH100
    # A checkout may have been found through the working folder; its children must find it too.
    if os.path.isfile(os.path.join(_ROOT, "pyproject.toml")) and _ROOT not in named:  # noqa: PTH113, PTH118
        named.insert(0, _ROOT)
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(named)}


def leave_working_folder() -> None:
    """Take the working folder off this process's import path, unless PYTHONPATH names it, and off its children's."""
    os.environ.update(safe_environment())
    try:
        here = os.getcwd()  # noqa: PTH109
    except OSError:  # the folder was deleted
        here = ""
    named = os.environ["PYTHONPATH"].split(os.pathsep)
    sys.path[:] = [entry for entry in sys.path if entry and (entry != here or entry in named)]
