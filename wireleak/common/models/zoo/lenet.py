"""The LeNet of He, Zhang and Lee (ACSAC 2019, `net.py` of their repository), cut where they cut it."""

from __future__ import annotations

from torch import Tensor, nn

from wireleak.common.models.networks import register


@register("lenet")
def lenet(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """LeNet for 28x28 images: 4608 floats at cut 1 (conv1, before its ReLU), 1024 at cut 2 (ReLU2, before its pool).

    Cuts 3 and 4 send the 120 and 84 floats of the two hidden dense layers, before their ReLU. It has no normalisation:
    convolution 8 of 5x5, ReLU, pool, convolution 16 of 5x5, ReLU, pool, 120, 84, classes. Inputs in [0, 1] are scaled
    to [-1, 1] first, as theirs are.

    Raises
    ------
    ValueError
        The input is no 28x28 image.
    """
    if len(input_shape) != 3 or input_shape[1:] != (28, 28):
        raise ValueError(f"model: lenet takes inputs of (channels, 28, 28), not {input_shape}")
    # No ReLU is in place: an activation that is sent, or kept to invert, must not change afterwards.
    return nn.Sequential(
        nn.Sequential(Centre(), nn.Conv2d(input_shape[0], 8, 5)),
        nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5), nn.ReLU()),
        nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 4 * 4, 120)),
        nn.Sequential(nn.ReLU(), nn.Linear(120, 84)),
        nn.Sequential(nn.ReLU(), nn.Linear(84, classes)),
    )


class Centre(nn.Module):
    """[0, 1] to [-1, 1]: mean .5 and standard deviation .5, as the authors normalise MNIST."""

    def forward(self, x: Tensor) -> Tensor:
        """Scale x, of any shape."""
        return 2 * x - 1
