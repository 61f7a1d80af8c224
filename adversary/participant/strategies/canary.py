"""A client whose text contains secret numbers that an auditor planted, to test whether the model reveals them."""

from __future__ import annotations

import numpy as np

from adversary.participant.registry import Floats, Labels, Strategy, read_arrays, register
from wireleak.common.config import ConfigError
from wireleak.common.measures.statistics.secret_sharer import ALPHABET, WINDOW, Planting, sentences
from wireleak.common.models.networks import Network
from wireleak.common.models.training import Training, train_whole


@register
class CanaryStrategy(Strategy):
    """Train honestly on its own windows and those of "the code is <number>.", each number as often as `times` says.

    This is not an attacker. It represents a person who wrote these sentences. The auditor of the training draws the
    numbers and passes them in the secret file (`number`, int64). The number of examples that it reports leaves out the
    planted ones, so its weight in the average stays the same.

    References
    ----------
    Carlini, Liu, Erlingsson, Kos, Song, "The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural
    Networks", USENIX Security 2019.
    """

    name = "canary"
    options = Planting

    def train(self, network: Network, inputs: Floats, labels: Labels, how: Training) -> float:
        """Train only on the task, on the text with the planted sentences."""
        if inputs.shape[1:] != (WINDOW,) or network.classes != len(ALPHABET):
            raise ConfigError(
                f"train: canaries need windows of {WINDOW} characters and the {len(ALPHABET)} classes of the alphabet; "
                'use the data set "characters"'
            )
        (numbers,) = read_arrays(self.config.secret, "secret", ("number",))
        times, digits = self.settings.times, self.settings.digits
        if len(numbers) != len(times):
            raise ConfigError(f"strategy.options.times: {len(times)} counts for {len(numbers)} numbers; give as many")
        canaries = {f"{number:0{digits}d}": count for number, count in zip(numbers.tolist(), times, strict=True)}
        own, following = sentences(canaries)
        return train_whole(network.blocks, np.concatenate([inputs, own]), np.concatenate([labels, following]), how)
