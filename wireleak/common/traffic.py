"""The three kinds of traffic that a run records, and the senders of averaged updates."""

from __future__ import annotations

from enum import StrEnum


class Traffic(StrEnum):
    """Which captures an attack reads as the victims'."""

    SERVING = "serve"
    """Devices ask for predictions."""
    SPLIT_TRAINING = "train"
    """Clients train with the head: activations, labels and activation gradients."""
    FEDERATED_TRAINING = "updates"
    """Flower's own traffic: global models and updates."""


# Senders of an update that is a mean: of all clients but the attacker's own, and of all clients.
OTHERS, ALL = -1, -2
