"""A trained network of a finished run, with the inputs and labels to profile its layers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from wireleak.common.config import first_mistake
from wireleak.common.measures.scores.measure import are_numbered
from wireleak.common.models import ModelConfig, Network, load_weights
from wireleak.common.registry import unknown
from wireleak.lab.run import truth
from wireleak.lab.run.layout import CellFolder, RunFolder
from wireleak.lab.study.library import load_study
from wireleak.lab.study.schema import Study, StudyError

Rows = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
# Enough for three folds, each with a validation part.
_FEWEST, _FEWEST_GROUPS = 60, 6


@dataclass(frozen=True)
class Layer:
    """Features of every input at one point of the network.

    Parameters
    ----------
    name : str
        "input", a block's name, or "softmax".
    title : str
        Its name in the report.
    side : {"input", "device", "wire", "server"}
        Where it is computed; "wire" is the activation that is sent.
    shape : tuple of int
        Shape of one example.
    features : float32 (n, floats)
    """

    name: str
    title: str
    side: str
    shape: tuple[int, ...]
    features: Rows

    def described(self) -> dict[str, Any]:
        """All fields but the features."""
        kept = {key: getattr(self, key) for key in ("name", "title", "side")}
        return kept | {"shape": list(self.shape), "floats": self.features.shape[1]}


@dataclass(frozen=True)
class ReadLabel:
    """A label to read from features: the task's, or a private attribute's.

    Parameters
    ----------
    name : str
    kind : {"task", "attribute"}
    labels : int64 (n,)
        Class indices from 0, only of classes that occur.
    classes : tuple of str
        Names of these classes.
    """

    name: str
    kind: str
    labels: Ints
    classes: tuple[str, ...]

    def one_hot(self) -> Rows:
        """Labels as one-hot rows, float32 (n, classes)."""
        return np.eye(len(self.classes), dtype=np.float32)[self.labels]

    def described(self) -> dict[str, Any]:
        """Its description for the page."""
        counts = np.bincount(self.labels)
        shares = counts / counts.sum()
        return {
            "name": self.name,
            "kind": self.kind,
            "classes": list(self.classes),
            "counts": counts.tolist(),
            "majority": float(shares.max()),
            "entropy": float(-(shares * np.log2(shares)).sum()),
        }


@dataclass(frozen=True)
class Specimen:
    """One cell of a run, opened.

    Parameters
    ----------
    cell : CellFolder
    study : Study
    variant : str
    seed : int
    model : ModelConfig
    round : int
        Round of the checkpoint.
    x : float32 (n, *input_shape)
        The victims' inputs.
    targets : tuple of ReadLabel
        The task first.
    groups : int64 (n,) or None
        Group of each row, such as its person.
    group : str or None
        Name of the groups.
    notes : tuple of str
        Lines that explain what was left out, and why.
    """

    cell: CellFolder
    study: Study
    variant: str
    seed: int
    model: ModelConfig
    round: int
    x: Rows
    targets: tuple[ReadLabel, ...]
    groups: Ints | None
    group: str | None
    notes: tuple[str, ...]

    def network(self, trained: bool) -> Network:
        """Return the network with its last weights, or with its initial ones.

        Raises
        ------
        StudyError
            The checkpoints are not this network's.
        """
        network = self.model.network()
        if trained:
            for part, half in zip(("encoder", "head"), network.split(self.model.cut), strict=True):
                try:
                    load_weights(half, self.cell.checkpoint(part, self.round))
                except (RuntimeError, OSError) as error:
                    line = " ".join(str(error).split())
                    raise StudyError(f"RUN: {self.cell.checkpoints} does not fit {self.model.name}: {line}") from error
        network.blocks.eval()
        return network

    @property
    def _words(self) -> bool:
        # Word numbers are names, so neither their distance nor their average has a meaning.
        return are_numbered(self.x)

    @property
    def input_title(self) -> str:
        """The title of the input's features."""
        return "input (bag of words)" if self._words else "input"

    def inputs(self) -> Rows:
        """Return the inputs as features, float32 (n, floats): unchanged, or counts of each word."""
        if not self._words:
            return _flat(self.x)
        counts = np.zeros((len(self.x), int(self.x.max()) + 1), np.float32)
        np.add.at(counts, (np.arange(len(self.x))[:, None], self.x.astype(np.int64)), 1)
        return counts[:, 1:]  # 0 is padding

    def layers(self, trained: bool) -> list[Layer]:
        """Return the input, every block's output and the softmax, for all examples."""
        import torch

        blocks = self.network(trained).blocks
        named = list(blocks.named_children())
        pieces: dict[str, list[torch.Tensor]] = {name: [] for name, _ in named}
        with torch.no_grad():
            for batch in torch.split(torch.from_numpy(self.x), 256):
                value = batch
                for name, block in named:
                    value = block(value)
                    pieces[name].append(value)
            whole = {name: torch.cat(parts) for name, parts in pieces.items()}
            softmax = whole[named[-1][0]].softmax(dim=1).numpy()
        layers = [Layer("input", self.input_title, "input", self.x.shape[1:], self.inputs())]
        for place, (name, _) in enumerate(named, 1):
            side = "wire" if place == self.model.cut else "device" if place < self.model.cut else "server"
            title = f"block {place}" if name.isdigit() else f"{place} {name}"
            title += " (logits)" if place == len(named) else ""
            values = whole[name].numpy()
            layers.append(Layer(f"block-{place}", title, side, values.shape[1:], _flat(values)))
        return [*layers, Layer("softmax", "softmax", "server", softmax.shape[1:], softmax)]

    def described(self) -> dict[str, Any]:
        """The run's description for the page."""
        return {
            "study": self.study.name,
            "description": self.study.description,
            "variant": self.variant,
            "seed": self.seed,
            "model": self.model.name,
            "cut": self.model.cut,
            "round": self.round,
            "examples": len(self.x),
            "task": self.targets[0].name,
            "group": self.group,
            "groups": None if self.groups is None else len(np.unique(self.groups)),
            "notes": list(self.notes),
        }


def open_run(run: Path, variant: str | None, seed: int | None, examples: int, group: str | None) -> Specimen:
    """Open a cell of a finished run; the parameters are those of `wireleak.lab.layers.profile.profile_layers`.

    Raises
    ------
    StudyError
        Something is missing: one line that names it, and the choices.
    """
    files = RunFolder(run)
    if not files.study.is_file():
        raise StudyError(f"RUN: {run} holds no {files.study.name}; name a run's folder")
    study, _ = load_study(str(files.study))
    cell, variant, seed = finished_cell(files, study, variant, seed)
    try:
        plan = json.loads(files.plan.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise StudyError(f"RUN: cannot read {files.plan}: {error}") from error
    model = served_model(cell)
    rounds = set(cell.rounds("encoder")) & set(cell.rounds("head"))
    if not rounds:
        raise StudyError(
            f"RUN: {cell.folder.name} has no checkpoint of encoder and head in server/checkpoints; choose another "
            "variant"
        )
    held = {name: values[:examples] for name, values in truth.ledger(cell).items()}
    if len(held["y"]) < _FEWEST:
        raise StudyError(
            f"RUN: {len(held['y'])} inputs are too few for probes of layers; take {_FEWEST} or more (--examples)"
        )
    targets, notes = _targets(held, plan.get("task") or "task", plan.get("classes", {}))
    by, groups, note = _groups(held, study.data.disjoint_by, group)
    notes += note
    return Specimen(cell, study, variant, seed, model, max(rounds), held["x"], tuple(targets), groups, by, tuple(notes))


def finished_cell(run: RunFolder, study: Study, variant: str | None, seed: int | None) -> tuple[CellFolder, str, int]:
    """Return the requested finished cell, or the first, with its variant and seed.

    Raises
    ------
    StudyError
        There is no such variant or cell; the message lists the choices.
    """
    known = [declared.name for declared in study.variants]
    if variant is not None and variant not in known:
        raise StudyError(f"--variant: {unknown('variant', variant, known)}")
    finished = {
        (name, int(cell.seed)): cell
        for name in known
        for cell in run.captured()
        if cell.variant == name and cell.seed.isdigit() and cell.ledger.is_file()
    }
    for (name, number), cell in finished.items():
        if variant in (None, name) and seed in (None, number):
            return CellFolder(cell.folder.resolve()), name, number
    have = ", ".join(cell.folder.name for cell in finished.values()) or "none"
    wanted = f"--variant {variant or 'any'}, --seed {'any' if seed is None else seed}"
    raise StudyError(f"RUN: {run.path} has no finished cell for {wanted}; choose one of {have}")


def _groups(
    held: dict[str, npt.NDArray[Any]], default: str | None, asked: str | None
) -> tuple[str | None, Ints | None, list[str]]:
    """Return the group for splits, its value of each row, and notes on why the study's group cannot be used."""
    by = asked or default
    if by is None:
        return None, None, []
    known = [key.removeprefix("group:") for key in held if key.startswith("group:")]
    problem = f"the victims' inputs have {unknown('group', by, known)}"
    if f"group:{by}" in held:
        names, numbers = np.unique(held[f"group:{by}"], return_inverse=True)
        if len(names) >= _FEWEST_GROUPS:
            return by, numbers.astype(np.int64), []
        problem = f"{len(names)} values of {by} are too few for splits that share none; {_FEWEST_GROUPS} are needed"
    if asked is not None:
        raise StudyError(f"--group: {problem}")
    return None, None, [f"Inputs of one {by} may be on both sides of a split: {problem}"]


def served_model(cell: CellFolder) -> ModelConfig:
    """Return the network of a cell, from its victim's config.

    Raises
    ------
    StudyError
        The config is missing, as where no device serves, or broken.
    """
    config = cell.device_config("victim")
    try:
        return ModelConfig.model_validate(json.loads(config.read_text())["model"])
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise StudyError(f"RUN: cannot read the network from {config}: {error}") from error
    except ValidationError as error:
        raise StudyError(f"RUN: {config}: {first_mistake(error)}") from error


def _targets(
    held: dict[str, npt.NDArray[Any]], task: str, classes: dict[str, list[str]]
) -> tuple[list[ReadLabel], list[str]]:
    """Return the task, every attribute that varies, and notes on those that do not."""
    wanted = {task: ("task", held["y"])}
    wanted |= {key.removeprefix("attribute:"): ("attribute", held[key]) for key in held if key.startswith("attribute:")}
    targets, notes = [], []
    for name, (kind, values) in wanted.items():
        present, labels = np.unique(values, return_inverse=True)
        names = classes.get(name, [])
        shown = tuple(names[k] if k < len(names) else str(k) for k in present.tolist())
        if len(present) > 1:
            targets.append(ReadLabel(name, kind, labels.astype(np.int64), shown))
        elif kind == "task":
            raise StudyError(f"RUN: these {len(labels)} inputs have only one task label; take more (--examples)")
        else:
            notes.append(f"The attribute {name} is {shown[0]} in all {len(labels)} inputs, so it cannot be probed")
    return targets, notes


def _flat(values: npt.NDArray[np.generic]) -> Rows:
    return np.ascontiguousarray(values.reshape(len(values), -1), np.float32)
