"""Secret Sharer: rank every number that somebody could have written by how likely the model finds it."""

from __future__ import annotations

import math

import numpy as np
from pydantic import BaseModel, ConfigDict

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.harness.update_attack import ModelAttack
from adversary.attacks.hidden.secrets import readable
from wireleak.common.measures.statistics.secret_sharer import perplexities
from wireleak.common.targets.canary import Canary

_TOP = 10
# In place of a log-perplexity that is not finite: likelier than nothing.
_UNLIKELY = 1e6


class SecretSharerOptions(BaseModel):
    """There is nothing to set."""

    model_config = ConfigDict(extra="forbid")


@register
class SecretSharer(ModelAttack):
    """Rank every number by its log-perplexity after the phrase "the code is ", under a captured language model.

    The model is one client's last update where that is seen, and the last global model where it is not. The attacker
    knows the format: the phrase, the alphabet and how many digits follow; it has no text. An auditor who planted the
    numbers does the same, and also knows where in the ranking to look.

    References
    ----------
    Carlini, Liu, Erlingsson, Kos, Song, "The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural
    Networks", USENIX Security 2019.
    """

    name = "secret-sharer"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.SERVER, Vantage.RELEASE),
        sees=("global-model",),
        knows=(Knows.ARCHITECTURE,),
    )
    target = Canary
    options = SecretSharerOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Load the model; there is nothing to learn."""
        import torch

        seen, _ = knowledge.trained()
        state, self.report["read"] = readable(seen)
        self._blocks = knowledge.network().blocks
        self._blocks.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})

    def guess(self, count: int) -> Array:
        """Log-perplexity (count, 1) in bits of each number from 0 to count - 1, count a power of ten."""
        digits = round(math.log10(count))
        found = np.nan_to_num(perplexities(self._blocks, digits), nan=_UNLIKELY, posinf=_UNLIKELY)
        likeliest = np.argsort(found, kind="stable")[:_TOP]
        self.report["likeliest"] = {f"{number:0{digits}d}": float(found[number]) for number in likeliest.tolist()}
        return found[:, None].astype(np.float32)
