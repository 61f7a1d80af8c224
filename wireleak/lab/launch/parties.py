"""Check that the packages `client`, `server` and `adversary` are wireleak's own, before they start."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

PARTIES = ("client", "server", "adversary")
FIX = "install wireleak in an environment of its own: pipx install 'wireleak[lab]' or uv tool install 'wireleak[lab]'"
_ROOT = Path(__file__).resolve().parents[3]


def foreign_party() -> str | None:
    """Return one line that names a foreign file and the fix, or None if every party is wireleak's own.

    It searches this process's import path, so call it where the working folder is not on that path.
    """
    for name in PARTIES:
        spec = importlib.util.find_spec(name)
        if spec is None:
            return f"wireleak's own package {name!r} is not installed; {FIX}"
        origin = spec.origin or next(iter(spec.submodule_search_locations or ()), name)
        if Path(origin).resolve() != _ROOT / name / "__init__.py":
            return f"{origin} would run instead of wireleak's own package {name!r}; {FIX}"
    if (changed := _replaced_file()) is not None:
        return f"{changed} is not the file that wireleak installed: another package replaced it; {FIX}"
    return None


def _replaced_file() -> Path | None:
    """Return a party's file whose bytes differ from those that wireleak's installation recorded, if there is one."""
    try:
        installed = distribution("wireleak").files or []
    except PackageNotFoundError:
        return None
    for file in installed:
        if file.parts[0] not in PARTIES or file.suffix != ".py" or file.hash is None:
            continue
        path = Path(str(file.locate()))
        # A checkout may be imported while another version is installed.
        if path.resolve().parents[len(file.parts) - 1] != _ROOT:
            return None
        content = path.read_bytes() if path.is_file() else b""
        digest = base64.urlsafe_b64encode(hashlib.new(file.hash.mode, content).digest()).rstrip(b"=").decode()
        if digest != file.hash.value:
            return path
    return None
