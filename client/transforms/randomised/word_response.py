"""Randomised response on words: replace words of a text by others before the encoder computes anything."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field

from client.transforms.randomised.clipping import DELTA
from client.transforms.randomised.random_transform import RandomTransform
from client.transforms.registry import Changes, register
from wireleak.common.config import ConfigError
from wireleak.common.measures.bounds.randomised_response import kept


class WordResponseOptions(BaseModel):
    """Settings of `WordResponse`."""

    model_config = ConfigDict(extra="forbid")
    # Above 30 the chance of a replacement nears the grain of a random number.
    epsilon: float = Field(gt=0, le=30, allow_inf_nan=False, description="Epsilon of one word.")
    words: int = Field(ge=2, le=1 << 24, description="Number of different words, numbered from 1; 5000 for texts.")


@register
class WordResponse(RandomTransform):
    """Keep each word with chance e^epsilon / (e^epsilon + k - 1); otherwise send one of the k - 1 others, all alike.

    Each word is epsilon-locally differentially private, with delta = 0, in everything that is computed from it: k-ary
    randomised response needs no embedding of words. A text of n words has n times that epsilon. Padding stays, so the
    number of words is not hidden. With k = 5000, half of the words survive only at epsilon 8.5. The encoder trains on
    replaced words too. The audit of two known inputs covers it: half of the replacements are refuted.

    References
    ----------
    Warner, JASA 1965; Kairouz, Oh, Viswanath, "Extremal Mechanisms for Local Differential Privacy", JMLR 2016 (k-ary).
    Feyisetan, Balle, Drake, Diethe, WSDM 2020, replace words by neighbours in an embedding instead, for metric privacy.
    """

    name = "word-response"
    options = WordResponseOptions
    changes = Changes("replaces words by others at random before the encoder", wire="activations of replaced words")
    acts_on = "words"

    def __call__(self, activation: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return word numbers (n, ...) with some replaced; 0, which is padding, stays.

        Raises
        ------
        ConfigError
            The inputs are not word numbers from 0 to `words`; they would be sent without a guarantee.
        """
        generator, count = self.generator(activation), self.settings.words
        if not ((activation == activation.round()) & (activation >= 0) & (activation <= count)).all():
            raise ConfigError(
                f"transforms.{self.name}: inputs must be word numbers from 0 to {count}; set words to their number, or "
                "use input-noise for other inputs"
            )
        chance = torch.rand(activation.shape, generator=generator, dtype=torch.float64)
        # A step of 1 to k - 1 around the circle of words reaches each other word once.
        step = torch.randint(1, count, activation.shape, generator=generator)
        other = (activation.long() - 1 + step) % count + 1
        replaced = (activation > 0) & (chance >= kept(self.settings.epsilon, count))
        return torch.where(replaced, other.to(activation.dtype), activation)

    def guarantee(self, messages: int) -> str:
        """Return a word's epsilon after `messages` about one text, as a phrase."""
        from wireleak.common.measures.bounds.laplace import composed

        epsilon, count = self.settings.epsilon, self.settings.words
        how = (
            f"{kept(epsilon, count):.3g} of the words are kept, out of {count}; a text of n words has n times that "
            "epsilon, and its number of words is not hidden"
        )
        if messages == 1:
            return f"local {epsilon:.3g}-DP (delta 0) for each word over a message ({how})"
        pure, mixed = messages * epsilon, composed(epsilon, messages, DELTA)
        return (
            f"local {pure:.3g}-DP (delta 0) and ({mixed:.3g}, {DELTA:g})-DP for each word over {messages} messages "
            f"about one text (epsilon {epsilon:g} each; {how})"
        )
