"""The parity of an input: a target that no file holds."""

from __future__ import annotations

import numpy as np

from wireleak.common.targets.attribute import PrivateAttribute, Values
from wireleak.common.targets.registry import register
from wireleak.common.targets.sealed import Sealed
from wireleak.common.targets.target import Array, Ints


@register
class Parity(PrivateAttribute):
    """Whether the rounded sum of an input's values is odd."""

    name = "parity"
    guessed = "the parity of the input"

    @property
    def attribute(self) -> None:
        """No attribute: the values follow from the inputs."""

    def derived(self, inputs: Array) -> Ints:
        """Return the parity of each input."""
        odd: Ints = np.round(inputs.reshape(len(inputs), -1).sum(1)).astype(np.int64) % 2
        return odd

    def ground_truth(self, sealed: Sealed) -> Values:
        """Compute the parity of the victims' inputs."""
        return Values(self.derived(sealed.victims("x")), sealed.victims("y"), None)
