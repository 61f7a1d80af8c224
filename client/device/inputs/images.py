"""Pictures: decoded with Pillow, one or three channels first, scaled as the encoder's training was."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from client.device.inputs.item import Item, checked
from client.device.model.errors import DeviceError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".tif", ".tiff")
_MODES = {1: "L", 3: "RGB"}


def from_file(path: Path, shape: tuple[int, ...], scaling: Mapping[str, Any], resize: bool) -> Item:
    """Read a picture.

    Raises
    ------
    DeviceError
        It cannot be read, or has another size and `resize` is false.
    """
    return _decoded(str(path), path, shape, scaling, resize)


def from_bytes(content: bytes, shape: tuple[int, ...], scaling: Mapping[str, Any], resize: bool) -> Item:
    """Read a picture from a file's bytes; errors are those of `from_file`."""
    return _decoded("-", BytesIO(content), shape, scaling, resize)


def scaled(name: str, pixels: npt.NDArray[np.uint8], shape: tuple[int, ...], scaling: Mapping[str, Any]) -> Item:
    """Return pixels (height, width[, channels]) of 0 to 255 as an input."""
    low, high = np.float32(scaling["low"]), np.float32(scaling["high"])
    planes = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1).astype(np.float32)
    return checked(name, low + planes / np.float32(255) * (high - low), shape)


def _decoded(
    name: str, file: Path | BinaryIO, shape: tuple[int, ...], scaling: Mapping[str, Any], resize: bool
) -> Item:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise DeviceError("--input: pictures need Pillow: pip install pillow; or give .npy files") from error
    channels, height, width = shape
    mode = _MODES[channels]
    try:
        with Image.open(file) as image:
            if image.size != (width, height):
                if not resize:
                    raise DeviceError(
                        f"--input: {name} has {image.width} x {image.height} pixels, the encoder takes "
                        f"{width} x {height}; give --resize to scale it"
                    )
                image.draft(mode, (2 * width, 2 * height))  # decodes a large JPEG at a small size, many times faster
            picture = image.convert(mode)
            if picture.size != (width, height):
                picture = picture.resize((width, height), Image.Resampling.BOX)
    except UnidentifiedImageError as error:
        raise DeviceError(f"--input: {name} is not a picture") from error
    except (OSError, Image.DecompressionBombError) as error:
        raise DeviceError(f"--input: cannot read {name}: {getattr(error, 'strerror', None) or error}") from error
    return scaled(name, np.asarray(picture), shape, scaling)
