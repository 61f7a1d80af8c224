"""A person whose text holds numbers: an auditor plants them at one client, to see whether the model gives them away."""

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

    No attacker: it hides nothing and helps nobody. It stands for a person who wrote these sentences, and is planted by
    whoever audits the training, who draws the numbers and hands them over in the secret file (`number`, int64). The
    number of examples that it tells the server leaves the planted ones out: it weighs as if it had none.

    References
    ----------
    Carlini, Liu, Erlingsson, Kos, Song, "The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural
    Networks", USENIX Security 2019.
    """

    name = "canary"
    options = Planting

    def train(self, network: Network, inputs: Floats, labels: Labels, how: Training) -> float:
        """Train on the task alone, on a text with the planted sentences in it."""
        if inputs.shape[1:] != (WINDOW,) or network.classes != len(ALPHABET):
            raise ConfigError(
                f"train: canaries are planted among windows of {WINDOW} characters whose classes are the "
                f"{len(ALPHABET)} of the alphabet, as the data set characters has them"
            )
        (numbers,) = read_arrays(self.config.secret, "secret", ("number",))
        times, digits = self.settings.times, self.settings.digits
        if len(numbers) != len(times):
            raise ConfigError(f"strategy.options.times: {len(times)} counts for {len(numbers)} numbers; give as many")
        canaries = {f"{number:0{digits}d}": count for number, count in zip(numbers.tolist(), times, strict=True)}
        own, following = sentences(canaries)
        return train_whole(network.blocks, np.concatenate([inputs, own]), np.concatenate([labels, following]), how)
