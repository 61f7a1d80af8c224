"""Song, capacity abuse: ask the model for the labels of synthetic inputs, which spell pictures."""

from __future__ import annotations

import math

import numpy as np

from adversary.attacks.harness.knowledge import Array
from adversary.attacks.harness.registry import register
from adversary.attacks.hidden.secrets import SecretAttack, SecretOptions, State
from adversary.participant import queries
from adversary.participant.payloads import CapacityLayout

_CHUNK = 512


class SongCapacityOptions(CapacityLayout, SecretOptions):
    """The layout, as agreed with the author of the participant's code."""


@register
class SongCapacity(SecretAttack):
    """Read the pictures that malicious training code taught the model as labels of synthetic inputs.

    The attack uses only the model's answers, so anyone who may query the model can run it.

    References
    ----------
    Song, Ristenpart, Shmatikov, "Machine Learning Models that Remember Too Much", CCS 2017, section 5.
    """

    name = "song-capacity"
    options = SongCapacityOptions

    def decode(self, state: State, shape: tuple[int, ...]) -> Array:
        """Return pictures of `shape` in [0, 1]."""
        import torch

        network = self._knowledge.network()
        network.blocks.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
        network.blocks.eval()
        small = queries.reduced_shape(shape[1:], self.settings.side)
        asked = queries.inputs(shape[0], math.prod(small), shape[1:], network.classes)
        with torch.inference_mode():
            parts = [network.blocks(torch.from_numpy(asked[at : at + _CHUNK])) for at in range(0, len(asked), _CHUNK)]
        labels = torch.cat(parts).argmax(1).numpy()
        pixels = queries.read_labels(labels, (shape[0], *small), network.classes)
        self.report["measured"] = {"queries": len(asked), "bits-per-query": 4 / queries.queries_each(network.classes)}
        return queries.enlarge(np.asarray(pixels / 255, np.float32), shape[1:])
