"""Observations: tensors that crossed the wire, each with its time and sender."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy.typing as npt


class Kind(StrEnum):
    """The role of a tensor on the wire."""

    ACTIVATION = "activation"
    ACTIVATION_GRADIENT = "activation-gradient"
    LABEL = "label"
    PREDICTION = "prediction"
    MODEL_UPDATE = "model-update"
    GLOBAL_MODEL = "global-model"


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One tensor, bit-equal to the tensor that was sent.

    Parameters
    ----------
    kind : Kind
        Role of the tensor.
    tensor : numpy.ndarray
        Read-only, in the shape and dtype that were sent.
    name : str
        The layer's name if it belongs to a model, otherwise "".
    sender : str
        The sender: "ip:port" for SplitHead, the id of the Flower node for the Fleet API.
    call : str
        "<capture>#<TCP stream>/<HTTP/2 stream>"; the same for both directions of a call.
    sequence : int
        SplitHead: the message's number within its call and direction, from 0.
        Fleet: the array's number within its Flower message, from 0.
    time : float
        Capture time of the last packet that carries it, in seconds since the epoch.
    round : int or None
        The federated round (only for the Fleet API).
    inferred : bool
        Whether the method, and so the kind, is known only by the message's shape.
    """

    kind: Kind
    tensor: npt.NDArray[Any]
    name: str
    sender: str
    call: str
    sequence: int
    time: float
    round: int | None = None
    inferred: bool = False
