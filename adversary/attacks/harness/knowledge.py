"""An attacker's knowledge: granted files, and the captures of its own device."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from adversary.attacks.harness.training import Recipe, Seen
from wireleak.common.measures.statistics.permutation import null_orders

if TYPE_CHECKING:
    # Importing the models imports torch, which would slow down attacks that do not need it.
    from wireleak.common.models import ModelConfig
    from wireleak.common.models.networks import Network

Array = npt.NDArray[np.float32]
_HELD_OUT = 6


@dataclass(frozen=True)
class Knowledge:
    """An attacker's knowledge: its own inputs, the captures of them, and everything granted.

    Parameters
    ----------
    seen : numpy.ndarray
        Float32 (n, ...), captured from the attacker's own device.
    inputs : numpy.ndarray
        Float32 (n, *input_shape), the device's inputs; row i belongs to row i of `seen`.
    labels : numpy.ndarray
        Int64 (n,), task labels.
    attribute : numpy.ndarray or None
        Int64 (n,), the private attribute under attack.
    classes : int
        Number of the attribute's values, as far as the attacker knows them; 0 without an attribute.
    augmented : numpy.ndarray
        Bool (n,): rows that are transformed copies. They may be used for training, never for validation.
    seed : int
        Seed of every random choice of an attack.
    model : ModelConfig or None
        Network, cut and input shape, if the threat model grants the architecture or any weights.
    encoder, head : Path or None
        Weights (safetensors), if they are granted.
    files : mapping of str to Path
        Other granted files.
    input_range : (float, float)
        The inputs' least and greatest value: public, as the pixel range is.
    groups : numpy.ndarray or None
        Int64 (n,), the person of each input, if the study separates parties by person: the attacker knows its own
        people, and validates on people that it did not train on.
    training, recipe : Seen and Recipe, or None
        For attacks on updates: the captured federated training, and the clients' training settings.
    """

    seen: Array
    inputs: Array
    labels: npt.NDArray[np.int64]
    attribute: npt.NDArray[np.int64] | None
    classes: int
    augmented: npt.NDArray[np.bool_]
    seed: int
    model: ModelConfig | None = None
    encoder: Path | None = None
    head: Path | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    input_range: tuple[float, float] = (0.0, 1.0)
    groups: npt.NDArray[np.int64] | None = None
    training: Seen | None = None
    recipe: Recipe | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def held_out(self) -> npt.NDArray[np.bool_]:
        """Return the mask (n,) of the sixth of the untransformed rows, in whole groups, for validation."""
        own, rng = np.flatnonzero(~self.augmented), np.random.default_rng(self.seed)
        mask = np.zeros(len(self), bool)
        if self.groups is None:
            mask[rng.permutation(own)[: len(own) // _HELD_OUT]] = True
            return mask
        kinds, sizes = np.unique(self.groups[own], return_counts=True)
        order = rng.permutation(len(kinds))
        # At least one group for validation, and never the last one, so that some are left for training.
        count = np.searchsorted(np.cumsum(sizes[order]), len(own) // _HELD_OUT, side="right")
        mask[own] = np.isin(self.groups[own], kinds[order[: min(max(count, 1), len(kinds) - 1)]])
        return mask

    def join(self, seen: Array, places: npt.NDArray[np.int64] | None = None) -> Knowledge:
        """Return the pairs of inputs with `seen`, row by row; `places` numbers the inputs, if some are not there."""
        n = min(len(seen), len(self))
        if places is None or np.array_equal(places, np.arange(n)):
            return replace(self, seen=seen).take(slice(n))
        return replace(self.take(places), seen=seen)

    def limited(self, knows: Collection[str]) -> Knowledge:
        """Return the part of the knowledge that a threat model with only `knows` grants."""
        known = self
        if not {"architecture", "weights", "head"} & set(knows):
            known = replace(known, model=None)
        known = replace(
            known,
            encoder=known.encoder if "weights" in knows else None,
            head=known.head if "head" in knows else None,
        )
        if "surrogate" not in knows:
            known = replace(known.take(slice(0)), seen=known.seen)
        if not {"queries", "pairs"} & set(knows):
            known = replace(known, seen=np.zeros(0, np.float32))
        return known

    def network(self) -> Network:
        """Return the network that the threat model grants, with fresh weights.

        Raises
        ------
        ValueError
            No architecture is granted.
        """
        return self._architecture().network()

    def fresh_network(self, seed: int) -> tuple[Network, int]:
        """Return the granted network with weights that the attacker draws, and its cut; raises as `network` does."""
        architecture = self._architecture()
        # Not the config's own seed: it would draw the initial weights of the victims' encoder.
        own = int(np.random.SeedSequence([seed, 0x5AD0]).generate_state(1)[0])
        return architecture.model_copy(update={"seed": own}).network(), architecture.cut

    def _architecture(self) -> ModelConfig:
        if self.model is None:
            raise ValueError("granted.model: this attack needs the network's architecture; grant the model's config")
        return self.model

    def trained(self) -> tuple[Seen, Recipe]:
        """Return the captured federated training, and the clients' training settings.

        Raises
        ------
        ValueError
            No federated training was captured.
        """
        if self.training is None or self.recipe is None:
            raise ValueError("captures: this attack reads updates; give the captures of a federated training")
        return self.training, self.recipe

    def without_copies(self) -> Knowledge:
        """Return only the rows that are not transformed copies."""
        return self.take(~self.augmented) if self.augmented.any() else self

    def permuted(self, rng: np.random.Generator) -> Knowledge:
        """Return the pairs without transformed copies, with the attribute's values permuted at random.

        A value that every person has once moves between persons, so that no person gets two.
        """
        own = self.without_copies()
        assert own.attribute is not None
        (order,) = null_orders(own.attribute, own.groups, 1, rng)
        return replace(own, attribute=own.attribute[order])

    def take(self, rows: slice | npt.NDArray[np.bool_ | np.int64]) -> Knowledge:
        """Return only these rows."""
        return replace(
            self,
            seen=self.seen[rows] if len(self.seen) else self.seen,
            inputs=self.inputs[rows],
            labels=self.labels[rows],
            attribute=None if self.attribute is None else self.attribute[rows],
            augmented=self.augmented[rows],
            groups=None if self.groups is None else self.groups[rows],
        )


def surrogate(path: Path, attribute: str | None, seed: int) -> Knowledge:
    """Load a granted `surrogate.npz`, with one of its attributes and without captures.

    Raises
    ------
    ValueError
        The file is unreadable, lacks an array or the attribute, or its arrays differ in length.
    """
    arrays = _load(path)
    for name in ("x", "y"):
        if name not in arrays:
            raise ValueError(f"granted.surrogate: {path} has no array {name!r}; add it")
    n = len(arrays["x"])
    values = None
    if attribute is not None:
        if f"attribute:{attribute}" not in arrays:
            have = sorted(name.removeprefix("attribute:") for name in arrays if name.startswith("attribute:"))
            raise ValueError(
                f"target: {path} has no attribute {attribute!r}; choose one of {', '.join(have) or 'none'}"
            )
        values = arrays[f"attribute:{attribute}"].astype(np.int64)
        if values.min(initial=0) < 0:
            raise ValueError(f"target: attribute {attribute!r} in {path} has negative values; number its values from 0")
    augmented = arrays.get("augmented", np.zeros(n)).astype(bool)
    groups = arrays["group"].astype(np.int64) if "group" in arrays else None
    aligned = {"y": arrays["y"], "augmented": augmented, f"attribute:{attribute}": values, "group": groups}
    for name, array in aligned.items():
        if array is not None and array.shape != (n,):
            raise ValueError(
                f"granted.surrogate: {name!r} in {path} has shape {array.shape}; give it {n} rows, as 'x' has"
            )
    if not n or augmented.all() or not np.isfinite(arrays["x"]).all():
        raise ValueError(
            f"granted.surrogate: 'x' in {path} must be finite and hold at least one row that is not augmented"
        )
    inputs, labels = arrays["x"].astype(np.float32), arrays["y"].astype(np.int64)
    classes = 0 if values is None else int(values.max()) + 1
    low, high = (float(end) for end in arrays.get("range", np.array([inputs.min(), inputs.max()])))
    known = Knowledge(np.zeros(0, np.float32), inputs, labels, values, classes, augmented, seed)
    return replace(known, input_range=(low, high), groups=groups)


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"granted.surrogate: {path} is not a readable .npz file: {error}") from None
