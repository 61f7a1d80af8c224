"""Export an encoder, of a run or of a user's own network, as a folder that a device without torch can use."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError

from wireleak.common.config import Plugin, first_mistake
from wireleak.common.files import write_atomically
from wireleak.common.models import ModelConfig, load_weights
from wireleak.common.models.factory import resolve
from wireleak.common.models.weights import load_arrays
from wireleak.common.words import counted
from wireleak.lab.devices.errors import ExportError
from wireleak.lab.devices.manifest import ENCODER, MANIFEST, Inputs, Kind, kind_of, manifest
from wireleak.lab.launch.imports import safe_environment
from wireleak.lab.run.layout import CellFolder, RunFolder
from wireleak.lab.run.opening import finished_cell, served_model
from wireleak.lab.run.results import Step
from wireleak.lab.study.library import load_study
from wireleak.lab.study.schema import StudyError

if TYPE_CHECKING:
    from torch import nn

_EXAMPLES = 8


@dataclass(frozen=True)
class Exported:
    """An exported encoder.

    Parameters
    ----------
    folder : Path
        It holds `encoder.onnx` and `manifest.json`.
    model : ModelConfig
    activation_shape : tuple of int
    transforms : tuple of Step
        Transforms of the device, with their guarantees.
    """

    folder: Path
    model: ModelConfig
    activation_shape: tuple[int, ...]
    transforms: tuple[Step, ...]


@dataclass(frozen=True)
class Own:
    """A network of the user's own, to be exported.

    Parameters
    ----------
    model : str
        FILE.py:FACTORY, MODULE:FACTORY or a registered name.
    cut : int or None
        Number of the block after which the device sends.
    input_shape : sequence of int
        Shape of one input.
    classes : sequence of str
        Names of the classes.
    weights : Path, optional
        Trained weights of the encoder or of the whole network, .safetensors; None keeps those that `seed` draws.
    kind : str, optional
        Kind of the inputs; by default the shape decides.
    scaling : tuple of float
        A picture's input values for black and white.
    transforms : str
        JSON list of transforms, each {name, options}.
    pad : int, "powers" or None
    seed : int
    """

    model: str
    cut: int | None
    input_shape: Sequence[int]
    classes: Sequence[str]
    weights: Path | None = None
    kind: Kind | None = None
    scaling: tuple[float, float] = (0.0, 1.0)
    transforms: str = "[]"
    pad: int | str | None = None
    seed: int = 0


def export_run(run: Path, variant: str | None, seed: int | None, out: Path | None) -> Exported:
    """Export the trained encoder of a cell of a finished run, as its last checkpoint holds it.

    Parameters
    ----------
    run : Path
        The run's folder.
    variant, seed : str, int or None
        The cell; by default the first that finished.
    out : Path or None
        Folder for the files; by default `encoder/` in the cell's folder.

    Raises
    ------
    StudyError, ExportError
        Something is missing, or the encoder cannot be exported.
    """
    files = RunFolder(run)
    if not files.study.is_file():
        raise StudyError(f"RUN: {run} holds no {files.study.name}; name a run's folder, or FILE.py:FACTORY")
    study, _ = load_study(str(files.study))
    cell, variant, seed = finished_cell(files, study, variant, seed)
    model = served_model(cell)
    rounds = cell.rounds("encoder")
    if not rounds:
        raise StudyError(f"RUN: {cell.folder.name} has no checkpoint of an encoder; choose another --variant or --seed")
    encoder, _ = model.network().split(model.cut)
    _load(encoder, cell.checkpoint("encoder", rounds[-1]), "RUN", model)
    device = json.loads(cell.device_config("victim").read_text())
    chain = TypeAdapter(list[Plugin]).validate_python(device.get("transforms", []))
    classes = _class_names(files, model.classes)
    inputs = Inputs.of_data(study.data.name, model.input_shape)
    source = f"{files.path.resolve().name}/{cell.folder.name}, round {rounds[-1]}"
    return _write(
        out or cell.exported, encoder, model, inputs, classes, chain, device["head"].get("pad"), source, _examples(cell)
    )


def export_network(own: Own, out: Path) -> Exported:
    """Export the encoder of a user's own network.

    Raises
    ------
    ExportError
        An argument is wrong, or the encoder cannot be exported.
    """
    try:
        name = resolve(own.model)
    except ValueError as error:
        raise ExportError(str(error)) from error
    if own.weights is not None and not own.weights.is_file():
        raise ExportError(f"--weights: no file {own.weights}; give a .safetensors file")
    for option, value in (("--cut", own.cut), ("--input-shape", own.input_shape), ("--classes", own.classes)):
        if not value:
            raise ExportError(f"{option}: is missing, and a network that is not in a run needs it")
    try:
        model = ModelConfig.model_validate(
            {
                "name": name,
                "input_shape": own.input_shape,
                "classes": len(own.classes),
                "cut": own.cut,
                "seed": own.seed,
            }
        )
        chain = TypeAdapter(list[Plugin]).validate_json(own.transforms)
    except ValidationError as error:
        raise ExportError(first_mistake(error)) from error
    except ValueError as error:
        raise ExportError(str(error)) from error
    encoder, _ = model.network().split(model.cut)
    if own.weights is not None:
        _load(encoder, own.weights, "--weights", model)
    inputs = Inputs(own.kind or kind_of(own.input_shape), tuple(own.input_shape), *own.scaling)
    source = "untrained weights" if own.weights is None else own.weights.name
    return _write(out, encoder, model, inputs, own.classes, chain, own.pad, source)


def _write(
    folder: Path,
    encoder: nn.Module,
    model: ModelConfig,
    inputs: Inputs,
    classes: Sequence[str],
    chain: Sequence[Plugin],
    pad: int | str | None,
    source: str,
    examples: npt.NDArray[np.float32] | None = None,
) -> Exported:
    from wireleak.lab.devices.encoder import to_onnx

    steps = _described(chain, "words" if inputs.kind in ("text", "characters") else "numbers")
    shape = model.network().activation_shape(model.cut)
    content = to_onnx(encoder, inputs.drawn(_EXAMPLES) if examples is None else examples)
    transforms = [
        plugin.model_dump() | step.model_dump(include={"guarantee", "refusal", "at_inference"})
        for plugin, step in zip(chain, steps, strict=True)
    ]
    try:
        write_atomically(folder / ENCODER, content)
        write_atomically(folder / MANIFEST, manifest(model, inputs, shape, classes, content, transforms, pad, source))
    except OSError as error:
        raise ExportError(f"--out: cannot write {folder}: {error.strerror}") from error
    return Exported(folder, model, shape, tuple(steps))


def _described(chain: Sequence[Plugin], inputs: str) -> list[Step]:
    """Ask the client, as a process, for each transform's guarantee about one message."""
    if not chain:
        return []
    text = json.dumps([step.model_dump() for step in chain])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "client", "transforms", text, "--inputs", inputs],
        capture_output=True,
        text=True,
        env=os.environ | safe_environment(),
    )
    if done.returncode:
        raise ExportError(
            done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "transforms: the client failed"
        )
    return TypeAdapter(list[Step]).validate_json(done.stdout)


def _load(encoder: nn.Module, path: Path, field: str, model: ModelConfig) -> None:
    """Load weights of the encoder, or of the whole network that it is the first part of."""
    wanted = encoder.state_dict()
    try:
        load_weights(encoder, path)
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{field}: cannot read {path}: {error}; name a .safetensors file") from error
    except RuntimeError:
        held = load_arrays(path)
        misfits = [name for name, value in wanted.items() if name not in held or held[name].shape != tuple(value.shape)]
        if misfits:
            raise ExportError(
                f"{field}: {path} does not hold the encoder of {model.name} at cut {model.cut}, such as {misfits[0]}; "
                "name a file that does"
            ) from None
        import torch

        encoder.load_state_dict({name: torch.from_numpy(held[name]) for name in wanted})


def _class_names(files: RunFolder, count: int) -> list[str]:
    plan = json.loads(files.plan.read_text())
    names = plan.get("classes", {}).get(plan.get("task"), [])
    return [str(name) for name in names] if len(names) == count else [str(k) for k in range(count)]


def _examples(cell: CellFolder) -> npt.NDArray[np.float32] | None:
    """Return some of the attacker's inputs, to compare on inputs that occur; None where the run has none."""
    if not cell.surrogate.is_file():
        return None
    with np.load(cell.surrogate, allow_pickle=False) as held:
        return np.asarray(held["x"][:_EXAMPLES], np.float32)


def shown(exported: Exported) -> str:
    """Return a summary for people, a fact a line."""
    model, floats = exported.model, math.prod(exported.activation_shape)
    lines = [
        f"encoder of {model.name} at cut {model.cut}: {list(model.input_shape)} to {list(exported.activation_shape)}, "
        f"{counted(floats, 'float')}",
        *(f"{step.name}: {step.guarantee or step.refusal or 'no guarantee'}" for step in exported.transforms),
        f"written: {exported.folder / ENCODER} and {MANIFEST}",
    ]
    return "\n".join(lines)
