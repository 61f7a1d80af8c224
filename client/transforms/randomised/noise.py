"""Noise: clip activations to a norm, then add Gaussian noise, for a local guarantee."""

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
        None,
        gt=0,
        allow_inf_nan=False,
        description="Largest Euclidean norm of an activation; without it there is no epsilon.",
    )
    sigma: float = Field(gt=0, allow_inf_nan=False, description="Standard deviation of the noise on every number.")


@register
class Noise(RandomTransform):
    """Clip each example's activation to a Euclidean norm, then add Gaussian noise.

    The clipped activations of any two inputs are at most 2 clip apart, so a message is mu-GDP with mu = 2 clip / sigma.
    This is local differential privacy for the whole input, against eavesdroppers and the server. Noise without a clip
    bounds nothing. The noise follows from the seed and the first batch, so a study can be repeated and no two devices
    share their noise. A real device must draw it from its operating system.

    References
    ----------
    Balle, Wang, ICML 2018 (exact curve); Dong, Roth, Su, JRSS B 2022 (composition mu sqrt(q)).
    """

    name = "noise"
    options = NoiseOptions
    changes = Changes("clips each activation and adds Gaussian noise", wire="noised activations")
    stream = ""  # the published figures were drawn with this stream

    def __call__(self, activation: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the noised activation, float32 of the same shape; gradients pass through the clipping."""
        generator = self.generator(activation)
        if self.settings.clip is not None:
            activation = clipped(activation, self.settings.clip, norm=2)
        noise = torch.randn(activation.shape, generator=generator, dtype=activation.dtype)
        sigma: float = self.settings.sigma
        return activation + sigma * noise

    def guarantee(self, messages: int) -> str | None:
        """Return mu and epsilon of `messages` about one input, as a phrase; None without a clip."""
        if self.settings.clip is None:
            return None
        # Imported late: a device that only sends needs no scipy.
        from wireleak.common.measures.bounds.gaussian import epsilon_of, mu_of

        mu = mu_of(self.settings.clip, self.settings.sigma, messages)
        count = "a message" if messages == 1 else f"{messages} messages about one input"
        return (
            f"local ({epsilon_of(mu, DELTA):.3g}, {DELTA:g})-DP for the whole input over {count} "
            f"(mu = {mu:.3g}, clip {self.settings.clip:g}, sigma {self.settings.sigma:g})"
        )

    def refusal(self) -> str | None:
        """Return why unclipped noise guarantees nothing."""
        return refusal_of(self.settings.clip)
