"""Strided convolutions with GroupNorm: over images, and over time for sensor windows."""

from __future__ import annotations

from torch import nn

from wireleak.common.models.networks import register


@register("strided28")
def strided28(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Four strided convolutions for one 28x28 channel: 3136, 1568, 512 and 32 floats at cuts 1 to 4."""
    if input_shape != (1, 28, 28):
        raise ValueError(f"model: strided28 takes inputs of (1, 28, 28), not {input_shape}")
    return nn.Sequential(
        _convolution(1, 16, 5, stride=2, padding=2),
        _convolution(16, 32, 3, stride=2, padding=1),
        _convolution(32, 32, 3, stride=2, padding=1),
        _convolution(32, 32, 4),
        _dense_head(32, classes),
    )


@register("strided32")
def strided32(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Four strided convolutions for 32x32 images: 4096, 2048, 1024 and 64 floats at cuts 1 to 4."""
    if len(input_shape) != 3 or input_shape[1:] != (32, 32):
        raise ValueError(f"model: strided32 takes inputs of (channels, 32, 32), not {input_shape}")
    return nn.Sequential(
        _convolution(input_shape[0], 16, 5, stride=2, padding=2),
        _convolution(16, 32, 3, stride=2, padding=1),
        _convolution(32, 64, 3, stride=2, padding=1),
        _convolution(64, 64, 4),
        _dense_head(64, classes),
    )


@register("conv1d")
def conv1d(input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Strided convolutions over time for sensor windows (channels, length)."""
    if len(input_shape) != 2:
        raise ValueError(f"model: conv1d takes inputs of (channels, length), not {input_shape}")

    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv1d(inputs, outputs, 5, stride=2, padding=2), nn.GroupNorm(8, outputs), nn.ReLU())

    return nn.Sequential(
        block(input_shape[0], 32),
        block(32, 32),
        block(32, 64),
        nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten()),
        _dense_head(64, classes),
    )


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> nn.Sequential:
    # GroupNorm, not BatchNorm: no running statistics to average between clients, and one example
    # never influences another's activation, which every attack and guarantee here relies on.
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.GroupNorm(8, outputs), nn.ReLU())


def _dense_head(features: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, classes))
