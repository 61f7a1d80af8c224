"""Checkpoints of rounds: `encoder-<round>.safetensors` and `head-<round>.safetensors`."""

from __future__ import annotations

import re
from pathlib import Path

from wireleak.common.config import ConfigError
from wireleak.common.models import ModelConfig

KEPT = 100  # rounds whose checkpoints are kept; a training may have thousands
_NAME = re.compile(r"(encoder|head)-([1-9]\d*)\.safetensors")


class CheckpointError(ConfigError):
    """A checkpoint cannot be used; the message is one line."""

    @classmethod
    def of(cls, path: Path, model: ModelConfig) -> CheckpointError:
        """Return the error for a file, naming the stage it should hold."""
        return cls(
            f"checkpoints: {path} is missing, broken or not of cut {model.cut} of {model.name}; "
            "name another folder or remove it"
        )


def encoder_path(folder: Path, server_round: int) -> Path:
    """Return the path of a round's encoder."""
    return folder / f"encoder-{server_round}.safetensors"


def head_path(folder: Path, server_round: int) -> Path:
    """Return the path of a round's head."""
    return folder / f"head-{server_round}.safetensors"


def forget(folder: Path, server_round: int) -> None:
    """Remove the checkpoint that is `KEPT` rounds older than this round."""
    for path in (encoder_path(folder, server_round - KEPT), head_path(folder, server_round - KEPT)):
        path.unlink(missing_ok=True)


def newest(folder: Path) -> int:
    """Return the last round of which both stages were saved; 0 if there is none."""
    found: dict[str, set[int]] = {"encoder": set(), "head": set()}
    for path in folder.glob("*.safetensors"):
        if match := _NAME.fullmatch(path.name):
            found[match[1]].add(int(match[2]))
    return max(found["encoder"] & found["head"], default=0)
