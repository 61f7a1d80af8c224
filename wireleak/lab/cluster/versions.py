"""Compare the software of a cluster's nodes with that of the machine that runs the study."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

from wireleak.lab.run.scored import source_digest

# Libraries on which a run's figures depend.
_LIBRARIES = ("flwr", "numpy", "scikit-learn", "scipy", "torch")
_PACKAGES = ("wireleak", "client", "server", "adversary")


@cache
def versions() -> dict[str, str]:
    """Return the version of Python, of wireleak with a digest of its source, and of the libraries that compute."""
    own = {"wireleak": f"{version('wireleak')} ({source_digest(*_PACKAGES)[:8]})", "python": platform.python_version()}
    return own | {name: version(name) for name in _LIBRARIES}


def difference(expected: Mapping[str, str]) -> str | None:
    """Return one line on the first version here that differs from the expected one, or None."""
    here = versions()
    for name, wanted in expected.items():
        if here.get(name) != wanted:
            return f"it has {name} {here.get(name, 'missing')}, and this run needs {wanted}"
    return None
