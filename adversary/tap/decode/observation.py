"""What the tap yields: one tensor that crossed the wire, with when and from whom."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy.typing as npt


class Kind(StrEnum):
    """What a tensor on the wire is."""

    ACTIVATION = "activation"
    ACTIVATION_GRADIENT = "activation-gradient"
    LABEL = "label"
    PREDICTION = "prediction"
    MODEL_UPDATE = "model-update"
    GLOBAL_MODEL = "global-model"


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One tensor, bit-equal to what was sent.

    Parameters
    ----------
    kind : Kind
        What it is.
    tensor : numpy.ndarray
        Read-only, in the shape and dtype that were sent.
    name : str
        The layer's name for models, else "".
    sender : str
        Who sent it: "ip:port" for SplitHead, the Flower node's id for the Fleet API.
    call : str
        "<capture>#<TCP stream>/<HTTP/2 stream>"; the same for both directions of a call.
    sequence : int
        SplitHead: the message's number within its call and direction, from 0.
        Fleet: the array's number within its Flower message, from 0.
    time : float
        When the last packet that carries it was captured, in seconds since the epoch.
    round : int or None
        The federated round (Fleet alone).
    """

    kind: Kind
    tensor: npt.NDArray[Any]
    name: str
    sender: str
    call: str
    sequence: int
    time: float
    round: int | None = None
