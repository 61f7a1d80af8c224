"""The decoder of a hijacked training: the malicious server writes it, and an attack reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from adversary.attacks.harness.progressive import build_decoder
from wireleak.common.models import load_arrays

# Weights of a round, and facts about the newest round.
WEIGHTS, FACTS = "fsha-{}.safetensors", "fsha.json"


def load_decoder(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Load the decoder that a hijacker saved last in its folder, and its facts about the training.

    Raises
    ------
    ValueError
        The folder holds no decoder.
    """
    try:
        facts = json.loads((folder / FACTS).read_text())
        arrays = load_arrays(folder / WEIGHTS.format(facts["round"]))
        image = tuple(facts["input_shape"])
        decoder = build_decoder(tuple(facts["activation_shape"]), image, facts["width"], torch.zeros(image))
        own = {name.removeprefix("decoder."): array for name, array in arrays.items() if name.startswith("decoder.")}
        decoder.load_state_dict({name: torch.from_numpy(array) for name, array in own.items()})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"granted.files.hijack: {folder} holds no decoder of a hijacked training ({type(error).__name__}); "
            'give the folder that is "out" in the config of `python -m adversary hijack`'
        ) from None
    return decoder.eval(), facts
