"""Keep the user's working folder off the import path of this process and of every process that it starts.

`python -m MODULE` puts the working folder first on the import path, and so does an empty entry of PYTHONPATH. A user's
file called `client.py` or `torch.py` would then run instead of the package. This module runs before any other import,
so it imports only modules that the interpreter has already loaded.
"""

from __future__ import annotations

import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))  # noqa: PTH100, PTH120


def safe_environment() -> dict[str, str]:
    """Return variables with which a Python process imports this wireleak, and nothing from its working folder."""
    named = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]  # noqa: PTH100
    # This checkout may have been imported from the working folder; child processes must find it too.
    if os.path.isfile(os.path.join(_ROOT, "pyproject.toml")) and _ROOT not in named:  # noqa: PTH113, PTH118
        named.insert(0, _ROOT)
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(named)}


def leave_working_folder() -> None:
    """Remove the working folder from the import path of this process and its children, unless PYTHONPATH names it."""
    os.environ.update(safe_environment())
    try:
        here = os.getcwd()  # noqa: PTH109
    except OSError:  # the folder was deleted
        here = ""
    named = os.environ["PYTHONPATH"].split(os.pathsep)
    sys.path[:] = [entry for entry in sys.path if entry and (entry != here or entry in named)]
