"""The manifest of an exported encoder: all that a device needs to know of it, and of the head that it fits.

`client.device.model.manifest` reads it, on a device without wireleak's other packages.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from wireleak.common.measures.statistics.secret_sharer import ALPHABET
from wireleak.common.models import ModelConfig
from wireleak.common.wire import VERSION
from wireleak.lab.data.text import BUCKETS, TOKEN

FORMAT = 1
ENCODER, MANIFEST = "encoder.onnx", "manifest.json"
Kind = Literal["image", "window", "text", "characters", "array"]
_TEXTS, _CHARACTERS = ("blogs", "textcsv"), ("characters",)
# Data sets whose inputs are 1 where the files are black.
_INVERTED = ("omniglot",)


@dataclass(frozen=True)
class Inputs:
    """The inputs that an encoder takes.

    Parameters
    ----------
    kind : {"image", "window", "text", "characters", "array"}
        A picture, a window of sensor readings, word numbers, character numbers, or plain numbers.
    shape : tuple of int
        One input's shape; pictures and windows have channels first.
    low, high : float
        A picture's input values for black (0) and white (255).
    """

    kind: Kind
    shape: tuple[int, ...]
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def of_data(cls, data: str, shape: tuple[int, ...]) -> Inputs:
        """Describe the inputs of a data set, by its registry name and one example's shape."""
        if data in _TEXTS + _CHARACTERS:
            return cls("text" if data in _TEXTS else "characters", shape)
        return cls(kind_of(shape), shape, *((1.0, 0.0) if data in _INVERTED else (0.0, 1.0)))

    def described(self) -> dict[str, Any]:
        """Return the manifest's part "input"."""
        scaling: dict[str, dict[str, Any]] = {
            "image": {"low": self.low, "high": self.high},
            "text": {"pattern": TOKEN, "buckets": BUCKETS},
            "characters": {"alphabet": ALPHABET},
        }
        return {"kind": self.kind, "shape": list(self.shape), **scaling.get(self.kind, {})}

    def drawn(self, count: int) -> npt.NDArray[np.float32]:
        """Draw random inputs of this kind, float32 (count, *shape)."""
        rng = np.random.default_rng(0)
        shape = (count, *self.shape)
        if self.kind in ("text", "characters"):
            return rng.integers(0, 1 + (BUCKETS if self.kind == "text" else len(ALPHABET)), shape).astype(np.float32)
        low, high = sorted((self.low, self.high))
        drawn = rng.uniform(low, high, shape) if self.kind == "image" else rng.standard_normal(shape)
        return drawn.astype(np.float32)


def kind_of(shape: Sequence[int]) -> Kind:
    """Return the kind of inputs of this shape: 1 or 3 planes are a picture, rows of samples a window."""
    if len(shape) == 3 and shape[0] in (1, 3):
        return "image"
    return "window" if len(shape) == 2 else "array"


def manifest(
    model: ModelConfig,
    inputs: Inputs,
    activation_shape: Sequence[int],
    classes: Sequence[str],
    encoder: bytes,
    transforms: Sequence[dict[str, Any]],
    pad: int | str | None,
    source: str,
) -> bytes:
    """Return the manifest's JSON.

    Parameters
    ----------
    model : ModelConfig
    inputs : Inputs
    activation_shape : sequence of int
        Shape of one example's activation.
    classes : sequence of str
        Names of the task's classes.
    encoder : bytes
        The .onnx file.
    transforms : sequence of dict
        Name, options, guarantee, refusal and `at_inference` of each transform, in order.
    pad : int, "powers" or None
        Bytes to which messages are padded.
    source : str
        Where the weights are from, for people.
    """
    content = {
        "format": FORMAT,
        "wire": VERSION,
        "source": source,
        "model": model.public_name,
        "cut": model.cut,
        "input": inputs.described(),
        "activation_shape": list(activation_shape),
        "activation_bytes": 4 * math.prod(activation_shape),
        "classes": list(classes),
        "encoder": ENCODER,
        "encoder_sha256": hashlib.sha256(encoder).hexdigest(),
        "transforms": list(transforms),
        "pad": pad,
    }
    return (json.dumps(content | {"sha256": checksum(content)}, indent=1, ensure_ascii=False) + "\n").encode()


def checksum(content: dict[str, Any]) -> str:
    """Return the SHA-256 of a manifest without its own checksum, from JSON with sorted keys and no spaces."""
    kept = {key: value for key, value in content.items() if key != "sha256"}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
