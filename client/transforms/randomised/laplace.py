"""Laplace: clip activations in L1 norm, then add Laplace noise, for a local guarantee."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from client.transforms.randomised.clipping import DELTA, clipped, refusal_of
from client.transforms.randomised.random_transform import RandomTransform
from client.transforms.registry import Changes, register


class LaplaceOptions(BaseModel):
    """Settings of `Laplace`: `clip` and `epsilon`, or only `scale`, which guarantees nothing."""

    model_config = ConfigDict(extra="forbid")
    clip: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Largest L1 norm (sum of magnitudes) of an activation."
    )
    epsilon: float | None = Field(
        None, gt=0, le=1e4, allow_inf_nan=False, description="Local epsilon of one message; it sets the noise."
    )
    scale: float | None = Field(
        None, gt=0, le=1e6, allow_inf_nan=False, description="Scale b of the noise without clipping: no epsilon."
    )

    @model_validator(mode="after")
    def _one_form(self) -> LaplaceOptions:
        from wireleak.common.measures.bounds.gaussian import NO_SENSITIVITY

        if self.epsilon is not None and self.clip is None:
            raise ValueError(f"epsilon: {NO_SENSITIVITY}; set clip too, or only scale for noise without a guarantee")
        if (self.epsilon is None) == (self.scale is None):
            raise ValueError("epsilon: give clip and epsilon, or only scale for noise without a guarantee")
        if self.scale is not None and self.clip is not None:
            raise ValueError("scale: follows from clip and epsilon; give epsilon instead")
        return self


@register
class Laplace(RandomTransform):
    """Clip each example's activation in L1 norm, then add Laplace noise of scale b = 2 clip / epsilon.

    The clipped activations of any two inputs are at most 2 clip apart in L1 norm. A message is therefore
    epsilon-locally differentially private for the whole input, with delta = 0. In floating point the lowest bits of the
    sum reveal more than the real numbers of the proof do (Mironov, CCS 2012); a real device must round the sum.

    References
    ----------
    Dwork, McSherry, Nissim, Smith, TCC 2006; Kairouz, Oh, Viswanath, ICML 2015 (composition).
    """

    name = "laplace"
    options = LaplaceOptions
    changes = Changes("clips each activation in L1 norm and adds Laplace noise", wire="noised activations")

    def __call__(self, activation: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the noised activation, float32 of the same shape; gradients pass through the clipping."""
        generator = self.generator(activation)
        scale = self.settings.scale
        if self.settings.clip is not None:
            activation = clipped(activation, self.settings.clip, norm=1)
            scale = 2 * self.settings.clip / self.settings.epsilon
        # The difference of two exponentials is Laplace. float64, because float32 would cut the tails.
        waits = torch.empty(2, *activation.shape, dtype=torch.float64).exponential_(generator=generator)
        noise: torch.Tensor = scale * (waits[0] - waits[1])
        return activation + noise.to(activation.dtype)

    def guarantee(self, messages: int) -> str | None:
        """Return epsilon of `messages` about one input, as a phrase; None without a clip."""
        if self.settings.epsilon is None:
            return None
        from wireleak.common.measures.bounds.laplace import composed

        epsilon, clip = self.settings.epsilon, self.settings.clip
        how = f"clip {clip:g} in L1 norm, Laplace noise of scale {2 * clip / epsilon:.3g}"
        if messages == 1:
            return f"local {epsilon:.3g}-DP (delta 0) for the whole input over a message ({how})"
        pure, mixed = messages * epsilon, composed(epsilon, messages, DELTA)
        return (
            f"local {pure:.3g}-DP (delta 0) and ({mixed:.3g}, {DELTA:g})-DP for the whole input over {messages} "
            f"messages about one input (epsilon {epsilon:g} each; {how})"
        )

    def refusal(self) -> str | None:
        """Return why unclipped noise guarantees nothing."""
        return refusal_of(self.settings.clip)
