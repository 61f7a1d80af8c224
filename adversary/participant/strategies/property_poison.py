"""Active property inference in split training: poison the stream of activations with labels that name the property."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.participant.config import ParticipantConfig
from adversary.participant.registry import Floats, Labels, Poisoning, read_surrogate, register
from wireleak.common.config import ConfigError
from wireleak.common.models.training import Training


class PropertyPoisonOptions(BaseModel):
    """Settings of `PropertyPoison`."""

    model_config = ConfigDict(extra="forbid")
    attribute: str = Field(description="Name of the property, an attribute of the surrogate examples.")
    share: float = Field(
        0.5, ge=0, le=1, description="Share of its examples that it replaces by poisoned ones; 0 trains honestly."
    )


@register
class PropertyPoison(Poisoning):
    """Replace a share of its own examples by surrogate ones, labelled with their property instead of their task.

    The head is out of reach, so the participant cannot add a head of its own for the property, as `multi-task` does. It
    uses the label instead, the one channel that split training gives it. The head's mean loss over its batch is then
    ``(1 - share) * task + share * property``, and teaches head and encoder to separate the property. Each value of the
    property has an equal share of the poison. The examples are drawn anew in every round.

    Every message has the form, the size and the labels of an honest one. The attack `property-split` reads the others'
    updates of the steered encoder.

    References
    ----------
    Melis, Song, De Cristofaro, Shmatikov, "Exploiting Unintended Feature Leakage in Collaborative Learning", S&P 2019,
    section V-C, moved to split training. Mahloujifar, Ghosh, Chase, "Property Inference from Poisoning", S&P 2022: they
    label poison by the property too, and then query the finished model.
    """

    name = "property-poison"
    options = PropertyPoisonOptions

    def __init__(self, settings: PropertyPoisonOptions, config: ParticipantConfig) -> None:
        super().__init__(settings, config)
        self._inputs, self._values = read_surrogate(config, settings.attribute)
        if (kinds := self._values.max() + 1) > config.model.classes:
            raise ConfigError(
                f"strategy.options.attribute: {settings.attribute} has {kinds} values, but the task only "
                f"{config.model.classes} labels to name them; choose an attribute with fewer"
            )

    def examples(self, inputs: Floats, labels: Labels, how: Training) -> tuple[Floats, Labels]:
        """Replace the examples at random places."""
        draw = np.random.default_rng((*how.seed, 1))
        count = round(self.settings.share * len(inputs))
        places = draw.permutation(len(inputs))[:count]
        kinds = [np.flatnonzero(self._values == value) for value in np.unique(self._values)]
        drawn = [
            draw.choice(rows, len(part), replace=len(part) > len(rows))
            for rows, part in zip(kinds, np.array_split(places, len(kinds)), strict=True)
        ]
        rows = np.concatenate(drawn)
        inputs, labels = inputs.copy(), labels.copy()
        inputs[places], labels[places] = self._inputs[rows], self._values[rows]
        return inputs, labels
