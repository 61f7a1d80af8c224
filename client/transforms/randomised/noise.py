"""Noise: activations clipped to a norm, then Gaussian noise, with the local guarantee that this gives."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field

from client.transforms.randomised.clipping import DELTA, clipped, refusal_of
from client.transforms.randomised.random_transform import RandomTransform
from client.transforms.registry import Changes, register


class NoiseOptions(BaseModel):
    """Settings of `Noise`."""

    model_config = ConfigDict(extra="forbid")
    clip: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Euclidean norm that no activation exceeds; without it no epsilon."
    )
    sigma: float = Field(gt=0, allow_inf_nan=False, description="Standard deviation of the noise on every number.")


@register
class Noise(RandomTransform):
    """Clip each example's activation to a Euclidean norm, then add Gaussian noise.

    Any two inputs' clipped activations are at most 2 clip apart, so a message is mu-GDP with mu = 2 clip / sigma: local
    differential privacy for the whole input, against whoever reads the wire and the server too. Noise without a clip
    bounds nothing. The noise follows from the seed and the first batch, so that a study can be repeated while no two
    devices share their noise; a device in the field must draw it from its operating system.

    References
    ----------
    Balle, Wang, ICML 2018 (exact curve); Dong, Roth, Su, JRSS B 2022 (composition mu sqrt(q)).
    """

    name = "noise"
    options = NoiseOptions
    changes = Changes("clips each activation and adds Gaussian noise", wire="noised activations")
    stream = ""  # as published figures were drawn

    def __call__(self, activation: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the noised activation, float32 of the same shape; gradients pass through the clipping."""
        generator = self.generator(activation)
        if self.settings.clip is not None:
            activation = clipped(activation, self.settings.clip, norm=2)
        noise = torch.randn(activation.shape, generator=generator, dtype=activation.dtype)
        sigma: float = self.settings.sigma
        return activation + sigma * noise

    def guarantee(self, messages: int) -> str | None:
        """Give mu and epsilon of `messages` about one input; None without a clip."""
        if self.settings.clip is None:
            return None
        # Imported where it is used: a device that only sends needs no scipy.
        from wireleak.common.measures.bounds.gaussian import epsilon_of, mu_of

        mu = mu_of(self.settings.clip, self.settings.sigma, messages)
        count = "a message" if messages == 1 else f"{messages} messages about one input"
        return (
            f"local ({epsilon_of(mu, DELTA):.3g}, {DELTA:g})-DP for the whole input over {count} "
            f"(mu = {mu:.3g}, clip {self.settings.clip:g}, sigma {self.settings.sigma:g})"
        )

    def refusal(self) -> str | None:
        """Why unclipped noise guarantees nothing."""
        return refusal_of(self.settings.clip)
