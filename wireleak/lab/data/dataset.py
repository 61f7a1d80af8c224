"""A data set: inputs, a task label, private attributes, and groups to split by."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from wireleak.common.registry import unknown

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]


class DataError(ValueError):
    """A user's mistake about data: one line that names the data set or field and the fix."""


@dataclass(frozen=True)
class Attribute:
    """A private attribute of every example.

    Parameters
    ----------
    name : str
        Its name in a study.
    values : int64 (n,)
        Class indices.
    classes : tuple of str
        Name of each class.
    measured : bool
        True if computed from the input, false if annotated by the source.
    """

    name: str
    values: Ints
    classes: tuple[str, ...]
    measured: bool


@dataclass(frozen=True)
class Dataset:
    """Examples with a task label, private attributes and groups.

    Parameters
    ----------
    name : str
        Registry name.
    x : float32 or uint8 (n, *input_shape)
        Images channels first in [0, 1], or as 8-bit pixels, which take a quarter of the memory; sensor windows
        (channels, samples) in physical units. `inputs` returns either as float32.
    y : int64 (n,)
        Task label.
    task : str
        Meaning of `y`.
    classes : tuple of str
        Name of each task class.
    attributes : dict of Attribute
        Private attributes by name.
    groups : dict of int64 (n,)
        The group of each example (its subject, alphabet, ...), for group-disjoint splits.
    source : str
        Authors of the data, and the file from which it was read.
    group_names : dict of tuple of str
        Names of a group's values, where they have names: `group_names[g][groups[g][i]]`.

    Raises
    ------
    DataError
        Lengths differ, a label has no class, or `x` is not finite.
    """

    name: str
    x: npt.NDArray[Any]
    y: Ints
    task: str
    classes: tuple[str, ...]
    attributes: dict[str, Attribute]
    groups: dict[str, Ints]
    source: str
    group_names: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.x):
            raise DataError(f"{self.name}: holds no examples; check its files and options")
        images = self.x.dtype == np.uint8 and self.x.ndim == 4
        if not images and (self.x.dtype != np.float32 or not np.isfinite(self.x).all()):
            raise DataError(f"{self.name}: x must be finite float32, got {self.x.dtype}")
        _check_labels(self.name, "y", self.y, len(self.x), len(self.classes))
        for attribute in self.attributes.values():
            _check_labels(self.name, attribute.name, attribute.values, len(self.x), len(attribute.classes))
        for group, values in self.groups.items():
            _check_labels(self.name, group, values, len(self.x), None)

    def __len__(self) -> int:
        return len(self.x)

    def inputs(self, rows: Ints | slice) -> Floats:
        """Return the inputs at `rows` as float32; 8-bit pixels become [0, 1]."""
        chosen: Floats = self.x[rows].astype(np.float32, copy=False)
        if self.x.dtype == np.uint8:
            chosen /= 255
        return chosen

    @property
    def input_range(self) -> tuple[float, float]:
        """The least and greatest value of the inputs."""
        scale = 255 if self.x.dtype == np.uint8 else 1
        return float(self.x.min()) / scale, float(self.x.max()) / scale

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.x.shape[1:])

    def attribute(self, name: str) -> Attribute:
        """Return the attribute called `name`, or raise DataError with the known names."""
        if name not in self.attributes:
            raise DataError(_unknown(self.name, "attribute", name, self.attributes))
        return self.attributes[name]

    def group(self, name: str) -> Ints:
        """Return the values of the group called `name`, or raise DataError with the known names."""
        if name not in self.groups:
            raise DataError(_unknown(self.name, "group", name, self.groups))
        return self.groups[name]

    def _group_as_attribute(self, name: str) -> Attribute:
        names = self.group_names.get(name) or tuple(map(str, range(int(self.groups[name].max()) + 1)))
        return Attribute(name, self.groups[name], names, measured=False)

    def with_task(self, name: str) -> Dataset:
        """Return the same examples with the attribute `name` as their task; the former task becomes an attribute."""
        chosen = self.attribute(name)
        # Spaces, as in "parity of the digit", cannot stay: the name goes into studies and file names.
        former = re.sub(r"[^a-z0-9]+", "-", self.task.lower()).strip("-")
        rest = {key: attribute for key, attribute in self.attributes.items() if key != name}
        rest[former] = Attribute(former, self.y, self.classes, measured=False)
        return replace(self, y=chosen.values, task=name, classes=chosen.classes, attributes=rest)

    def with_binary(self, name: str, attribute: str, classes: Sequence[str]) -> Dataset:
        """Return the same examples with another attribute, `name`: whether `attribute` is one of `classes`.

        `attribute` may also be a group, such as the person. Its classes are the names in `group_names`, or the numbers.

        Raises
        ------
        DataError
            The name is taken, the attribute or a class is not known, or all examples are alike.
        """
        if name in self.attributes or name == self.task:
            raise DataError(f"data.binary: {self.name} has an attribute {name!r} already; choose another name")
        source = self._group_as_attribute(attribute) if attribute in self.groups else self.attribute(attribute)
        for wanted in classes:
            if wanted not in source.classes:
                raise DataError(f"data.binary.{name}: {unknown(f'class of {attribute}', wanted, source.classes)}")
        has = np.isin(source.values, [source.classes.index(wanted) for wanted in classes])
        if has.all() or not has.any():
            alike = "all" if has.all() else "no"
            raise DataError(f"data.binary.{name}: {alike} examples are {' or '.join(classes)}; name other classes")
        said = " or ".join(classes)
        made = Attribute(name, has.astype(np.int64), (f"not {said}", said), source.measured)
        return replace(self, attributes=self.attributes | {name: made})

    def take(self, indices: Ints) -> Dataset:
        """Return the examples at `indices`, in that order; classes keep their numbers."""
        return replace(
            self,
            x=self.x[indices],
            y=self.y[indices],
            attributes={k: replace(a, values=a.values[indices]) for k, a in self.attributes.items()},
            groups={k: g[indices] for k, g in self.groups.items()},
        )


def _unknown(dataset: str, kind: str, name: str, known: Mapping[str, object]) -> str:
    return f"{dataset}: {unknown(kind, name, sorted(known))}"


def _check_labels(dataset: str, name: str, values: Ints, n: int, classes: int | None) -> None:
    if values.dtype != np.int64 or values.shape != (n,):
        raise DataError(f"{dataset}: {name} must be int64 ({n},), got {values.dtype} {values.shape}")
    if values.min() < 0 or (classes is not None and values.max() >= classes):
        raise DataError(f"{dataset}: {name} holds values outside 0..{'' if classes is None else classes - 1}")
