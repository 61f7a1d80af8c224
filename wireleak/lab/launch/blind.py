"""Attacks that may not know the surrogate examples: their guess comes from a process that cannot read them.

The baselines need these examples. So a second process computes the baselines, and reads the guess of the first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from wireleak.common.files import write_arrays
from wireleak.lab.launch.processes import LaunchError
from wireleak.lab.run.attack_folder import AttackFolder


def blind_files(surrogate: Path, public: Path, out: Path, knows: set[str]) -> dict[str, Any]:
    """Return the part "own" and, in "public", the config's difference for the process that makes the guess.

    Both are missing where the attack may know the surrogate examples.

    Parameters
    ----------
    surrogate : Path
        The surrogate examples.
    public : Path
        File to write what everybody knows of them to.
    out : Path
        The attack's folder.
    knows : set of str
        What its threat model knows.
    """
    if "surrogate" in knows:
        return {}
    return {"own": str(own_folder(out)), "public": str(write_public(surrogate, public))}


def own_folder(out: Path) -> Path:
    """Return the folder of the first process, which the second one cannot write."""
    return out.with_name(f"{out.name}-own")


def write_public(surrogate: Path, path: Path) -> Path:
    """Write what everybody knows of the inputs: one input of zeros, of their shape and range, with the last class."""
    with np.load(surrogate, allow_pickle=False) as held:
        arrays = {name: held[name] for name in held.files}
    public = {name: np.zeros((1, *array.shape[1:]), array.dtype) for name, array in arrays.items() if name != "range"}
    for name in public:
        if name.startswith("attribute:"):
            public[name] = arrays[name].max(keepdims=True)
    low, high = arrays.get("range", (arrays["x"].min(), arrays["x"].max()))
    return write_arrays(path, public | {"range": np.array([low, high], np.float32)}, shared=True)


def blind_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config of the process that makes the guess, without all that only baselines need."""
    granted = _without(config["granted"], "surrogate", "untrained_encoder")
    blind = _without(config, "own", "public", "tensors")
    captures = {"victims": config["captures"]["victims"]}
    return blind | {"granted": granted | {"public": config["public"]}, "captures": captures, "out": config["own"]}


def check_own(own: AttackFolder, whole: AttackFolder, attack: str) -> None:
    """Refuse guesses that changed after the process could read the surrogate examples.

    Raises
    ------
    LaunchError
        The guess, or the attack's own report, is another.
    """
    with np.load(own.guesses, allow_pickle=False) as first, np.load(whole.guesses, allow_pickle=False) as last:
        guess, written = first[attack], last[attack]
    seen = np.isfinite(guess.reshape(len(guess), -1)).all(1)
    # As text, since NaN differs from itself.
    reports = [json.dumps(json.loads(folder.meta.read_text())["fit"], sort_keys=True) for folder in (own, whole)]
    if not np.array_equal(guess[seen], written[seen]) or reports[0] != reports[1]:
        raise LaunchError(f"{attack}: its guess changed once its process could read the surrogate examples; it cheats")


def _without(config: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in names}
