"""The sealed files of one attack, as a target reads its ground truth from them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Unit = tuple[int, int]


class Sealed(Protocol):
    """The ground truth behind one attack. Only the lab implements this, and hands it to the scorer.

    Attributes
    ----------
    seed : int
        Of the cell.
    federated : bool
        Whether the attack reads a federated training; then it guesses for `units` and not for `victims`.
    floats : int
        Floats that one activation takes on the wire.
    streamed : str or None
        The property that some rounds of the victim's stream have and others lack, where the study has such a stream.
    """

    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def federated(self) -> bool: ...  # noqa: D102
    @property
    def floats(self) -> int: ...  # noqa: D102
    @property
    def streamed(self) -> str | None: ...  # noqa: D102

    def victims(self, array: str) -> npt.NDArray[Any]:
        """Return "x", "y" or "attribute:<name>" of the inputs that the victims' devices sent, in their order."""
        ...

    def shared(self) -> npt.NDArray[np.int64]:
        """Return which victims' inputs the attacker holds itself, where the study means it; else none."""
        ...

    def surrogate(self, array: str) -> npt.NDArray[Any]:
        """Return an array of the attacker's own examples, without transformed copies."""
        ...

    def units(self) -> list[Unit]:
        """Return (sender, round) of every update that is attacked."""
        ...

    def behind(self, array: str) -> list[npt.NDArray[Any]]:
        """Return "x", "y" or "attribute:<name>" of the examples behind each of `units`."""
        ...

    def file(self, name: str, array: str) -> npt.NDArray[Any]:
        """Return an array of the sealed file "<name>.npz"."""
        ...

    def trained_labels(self) -> npt.NDArray[np.int64]:
        """Return the labels of every batch of split training, as the clients kept them, in the order of the wire."""
        ...

    def hidden(self, array: str) -> npt.NDArray[Any]:
        """Return an array that a malicious participant was given to hide."""
        ...

    def planted(self) -> dict[str, int]:
        """Return how often each secret number was planted, by its digits."""
        ...
