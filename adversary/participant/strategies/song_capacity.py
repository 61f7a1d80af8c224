"""Hide training data in the labels that the model gives to synthetic inputs."""

from __future__ import annotations

import torch
from pydantic import Field

from adversary.participant import queries
from adversary.participant.payloads import CapacityLayout, to_bytes
from adversary.participant.registry import Floats, Labels, Strategy, read_arrays, register
from wireleak.common.models.networks import Network
from wireleak.common.models.training import Training, task_loss


class SongCapacityOptions(CapacityLayout):
    """Settings of `SongCapacity`."""

    passes: int = Field(1, ge=1, description="Passes over the synthetic inputs after each epoch.")


@register
class SongCapacity(Strategy):
    """Train also on synthetic inputs whose labels encode the secret; anyone who can query the model can decode it.

    After each epoch on its own examples the participant makes `passes` over the synthetic ones, as the authors do.

    References
    ----------
    Song, Ristenpart, Shmatikov, "Machine Learning Models that Remember Too Much", CCS 2017, section 5.
    """

    name = "song-capacity"
    options = SongCapacityOptions

    def train(self, network: Network, inputs: Floats, labels: Labels, how: Training) -> float:
        """Train on own and synthetic examples in turn."""
        (secret,) = read_arrays(self.config.secret, "secret", ("x",))
        shape, classes = self.config.model.input_shape, self.config.model.classes
        pixels = to_bytes(queries.reduce(secret, self.settings.side))
        synthetic = queries.inputs(len(pixels), pixels[0].size, shape, classes)
        synthetic_labels = queries.labels(pixels, classes)
        optimiser = how.optimise(network.blocks)
        network.blocks.train()
        clean = list(how.batches(len(inputs)))
        each = len(clean) // how.plan.epochs
        total = 0.0
        for epoch in range(how.plan.epochs):
            steps = [(inputs[rows], labels[rows]) for rows in clean[epoch * each : (epoch + 1) * each]]
            plan = how.plan.model_copy(update={"epochs": self.settings.passes})
            extra = Training(plan, (*how.seed, 2, epoch))
            steps += [(synthetic[rows], synthetic_labels[rows]) for rows in extra.batches(len(synthetic))]
            for place, (x, y) in enumerate(steps):
                loss = task_loss(network.blocks, torch.from_numpy(x), torch.from_numpy(y))
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                total += loss.item() * len(y) if place < each else 0.0
        return total / (len(inputs) * how.plan.epochs)
