"""What attacks share that read hidden training data out of a model."""

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
# Who hides something, or whose text holds something, is client 0.
_SENDER = 0


def readable(seen: Seen) -> tuple[Mapping[str, npt.NDArray[Any]], str]:
    """The weights of client 0's last update where one is seen, else of the last global model, and which they are."""
    own = [one for one in seen.updates if one.sender == _SENDER]
    if own:
        return max(own, key=lambda one: one.round).end, "the participant's last update"
    return seen.models[max(seen.models)], "the last global model"


class SecretOptions(BaseModel):
    """What every such attack may be told."""

    through: Literal["float32", "float16"] = Field(
        "float32", description="float16: as if the captured weights had crossed the wire in half precision."
    )


class SecretAttack(ModelAttack):
    """Read the malicious participant's last update where that is seen, and the last global model where it is not.

    Nothing is learnt: the attacker colludes with whoever wrote the participant's code and knows the layout, no data.
    In the global model the secret is what averaging with honest clients has left of it.
    """

    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.SERVER, Vantage.RELEASE),
        sees=("global-model",),
        knows=(Knows.ARCHITECTURE,),
    )
    target = Secret

    def fit(self, knowledge: Knowledge) -> None:
        """Note the model to read, and the inputs' shape."""
        seen, self._knowledge = knowledge.training, knowledge
        assert seen is not None and knowledge.model is not None
        self._shape = tuple(knowledge.model.input_shape)
        state, self.report["read"] = readable(seen)
        self._state: State = {name: self._crossed(value) for name, value in state.items()}

    def guess(self, count: int) -> Array:
        """Pictures (count, *input_shape) in [0, 1]."""
        return self.decode(self._state, (count, *self._shape))

    @abstractmethod
    def decode(self, state: State, shape: tuple[int, ...]) -> Array:
        """Pictures of `shape`, (n, *input_shape), in [0, 1]."""

    def _crossed(self, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if value.dtype != np.float32 or self.settings.through == "float32":
            return value
        with np.errstate(over="ignore"):
            return value.astype(np.float16).astype(np.float32)
