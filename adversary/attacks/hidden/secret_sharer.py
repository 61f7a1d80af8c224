"""Secret Sharer: rank every number that could have been written by its likelihood under the model."""

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
    """`SecretSharer` has no settings."""

    model_config = ConfigDict(extra="forbid")


@register
class SecretSharer(ModelAttack):
    """Rank every number by its log-perplexity after the phrase "the code is ", under a captured language model.

    The model is one client's last update, or the last global model if no update is seen. The attacker knows the
    format: the phrase, the alphabet and the number of digits. It has no text. An auditor who planted the numbers does
    the same, and also knows where in the ranking to look.

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
        """Load the model; nothing is trained."""
        import torch

        seen, _ = knowledge.trained()
        state, self.report["read"] = readable(seen)
        self._blocks = knowledge.network().blocks
        self._blocks.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})

    def guess(self, count: int) -> Array:
        """Return the log-perplexity (count, 1), in bits, of the numbers below `count`, which is a power of ten."""
        digits = round(math.log10(count))
        found = np.nan_to_num(perplexities(self._blocks, digits), nan=_UNLIKELY, posinf=_UNLIKELY)
        likeliest = np.argsort(found, kind="stable")[:_TOP]
        self.report["likeliest"] = {f"{number:0{digits}d}": float(found[number]) for number in likeliest.tolist()}
        return found[:, None].astype(np.float32)
