"""Metric privacy: add noise that hides small differences between activations, and not large ones."""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field

from client.transforms.randomised.random_transform import RandomTransform
from client.transforms.registry import Changes, register


class MetricPrivacyOptions(BaseModel):
    """Settings of `MetricPrivacy`."""

    model_config = ConfigDict(extra="forbid")
    epsilon: float = Field(
        gt=0, le=1e4, allow_inf_nan=False, description="Epsilon per unit of Euclidean distance between activations."
    )


@register
class MetricPrivacy(RandomTransform):
    """Add noise of density exp(-epsilon ||noise||): a uniform direction and a length drawn from Gamma(d, 1/epsilon).

    The messages of two activations at distance r have densities within a factor e^(epsilon r) of each other. This is
    d_chi-privacy with the Euclidean metric. Nothing is clipped, so there is no local epsilon: distant inputs stay easy
    to distinguish. The mean length of the noise is d / epsilon, so it grows with the d numbers of a message.

    References
    ----------
    Chatzikokolakis, Andrés, Bordenabe, Palamidessi, PETS 2013 (the definition); Feyisetan, Balle, Drake, Diethe,
    "Privacy- and Utility-Preserving Textual Analysis via Calibrated Multivariate Perturbations", WSDM 2020 (the noise).
    """

    name = "metric-privacy"
    options = MetricPrivacyOptions
    changes = Changes("adds noise calibrated to distances between activations", wire="noised activations")

    def __call__(self, activation: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return the noised activation, float32 of the same shape."""
        generator = self.generator(activation)
        flat = activation.flatten(1)
        direction = torch.randn(flat.shape, generator=generator, dtype=torch.float64)
        # The sum of d exponentials is Gamma(d, 1). torch.distributions cannot draw from our generator.
        length = torch.empty(flat.shape, dtype=torch.float64).exponential_(generator=generator).sum(1, keepdim=True)
        noise: torch.Tensor = direction / direction.norm(dim=1, keepdim=True) * length / self.settings.epsilon
        return activation + noise.to(activation.dtype).view_as(activation)

    def guarantee(self, messages: int) -> str:
        """Return epsilon per unit of distance of `messages` about one input, as a phrase."""
        epsilon = self.settings.epsilon
        count = "a message" if messages == 1 else f"{messages} messages about one input"
        return (
            f"d_chi-privacy, epsilon {messages * epsilon:.3g} per unit of Euclidean distance between the inputs of "
            f"this step, over {count}; NOT comparable with an epsilon of local differential privacy, which it lacks, "
            f"as distances have no bound (mean length of the noise d/{epsilon:g} for d numbers a message)"
        )
