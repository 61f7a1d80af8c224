"""Common parts of the attacks that read hidden training data out of a model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.harness.training import Seen
from adversary.attacks.harness.update_attack import ModelAttack
from wireleak.common.targets.secret import Secret

State = dict[str, npt.NDArray[Any]]
# Client 0 hides the pictures, or holds the text with the planted numbers.
_SENDER = 0


def readable(seen: Seen) -> tuple[Mapping[str, npt.NDArray[Any]], str]:
    """Return the weights of client 0's last update, or of the last global model if no update is seen, and a label."""
    own = [one for one in seen.updates if one.sender == _SENDER]
    if own:
        return max(own, key=lambda one: one.round).end, "the participant's last update"
    return seen.models[max(seen.models)], "the last global model"


class SecretOptions(BaseModel):
    """Settings that all attacks on hidden pictures share."""

    through: Literal["float32", "float16"] = Field(
        "float32", description="float16: round the captured weights as if they had crossed the wire in half precision."
    )


class SecretAttack(ModelAttack):
    """Base of attacks that read the malicious participant's last update, or the last global model if none is seen.

    The attack trains nothing and needs no data: the attacker wrote the participant's code, or colludes with its author,
    and knows the layout. In the global model, averaging with honest clients has weakened the secret.
    """

    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.SERVER, Vantage.RELEASE),
        sees=("global-model",),
        knows=(Knows.ARCHITECTURE,),
    )
    target = Secret

    def fit(self, knowledge: Knowledge) -> None:
        """Choose the model to read, and note the inputs' shape."""
        seen, self._knowledge = knowledge.training, knowledge
        assert seen is not None and knowledge.model is not None
        self._shape = tuple(knowledge.model.input_shape)
        state, self.report["read"] = readable(seen)
        self._state: State = {name: self._crossed(value) for name, value in state.items()}

    def guess(self, count: int) -> Array:
        """Return pictures (count, *input_shape) in [0, 1]."""
        return self.decode(self._state, (count, *self._shape))

    @abstractmethod
    def decode(self, state: State, shape: tuple[int, ...]) -> Array:
        """Return pictures of `shape`, (n, *input_shape), in [0, 1]."""

    def _crossed(self, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if value.dtype != np.float32 or self.settings.through == "float32":
            return value
        with np.errstate(over="ignore"):
            return value.astype(np.float16).astype(np.float32)
