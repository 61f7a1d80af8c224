"""Rebuild inputs from a growing capture: train the attack once, then guess for every activation that appears."""

from __future__ import annotations

import base64
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge, surrogate
from adversary.attacks.harness.registry import ATTACKS
from adversary.attacks.harness.threat import Knows
from adversary.live.config import LiveConfig
from adversary.tap.decode.observation import Kind
from adversary.tap.decode.packets.pcap import CaptureError
from adversary.tap.decode.read import GrowingCapture, Observation
from wireleak.common.config import ConfigError, options_of
from wireleak.common.targets.input import Input

# Grants that this attacker has: data of its own, and what its own device sent of it.
_GRANTED = {Knows.SURROGATE, Knows.QUERIES}
_POLL_SECONDS = 0.02
_MOST_ROWS = 64

Publish = Callable[[str, dict[str, Any]], None]


class Eavesdropper:
    """An attacker that trains on its own device's captures, and then watches a link.

    Parameters
    ----------
    config : LiveConfig
    publish : callable
        Takes the kind of an event ("status" or "picture") and its fields.

    Raises
    ------
    ConfigError
        The attack is unknown, needs more than this attacker has, or does not rebuild inputs.
    """

    def __init__(self, config: LiveConfig, publish: Publish) -> None:
        kind: Any = ATTACKS.get(config.attack)
        if not issubclass(kind, ActivationAttack) or not issubclass(kind.target, Input):
            raise ConfigError(f"attack: {config.attack} rebuilds no inputs from activations; use inversion")
        if missing := sorted(set(kind.threat.knows) - _GRANTED):
            raise ConfigError(f"attack: {config.attack} needs {missing[0]}, which a live attacker lacks; use inversion")
        self._config = config
        self._publish = publish
        self._attack: ActivationAttack = kind(options_of(kind.options, config.options, "options"), config.seed)
        self._shape: tuple[int, ...] = ()

    def train(self) -> None:
        """Fit the attack on the attacker's own pairs, and publish how well it does on those held out.

        Raises
        ------
        ValueError, CaptureError
            A granted file or a capture is wrong.
        """
        known = surrogate(self._config.surrogate, None, self._config.seed)
        sent = self._attack.read(self._config.device, len(known))
        pairs = known.join(sent.rows, sent.places).limited(self._attack.threat.knows)
        if not len(pairs):
            raise ConfigError(f"device: no pairs of input and activation; {'; '.join(sent.notes)}")
        self._publish("status", {"state": "training", "attack": self._config.attack, "pairs": len(pairs)})
        began = time.monotonic()
        self._attack.fit(pairs)
        self._shape = pairs.seen.shape[1:]
        mean, prior = _mean_image(pairs)
        held_out = self._attack.report.get("held_out_loss")
        self._publish(
            "status",
            {
                "state": "listening",
                "attack": self._config.attack,
                "pairs": len(pairs),
                "own_pictures": int((~pairs.augmented).sum()),
                "seconds": round(time.monotonic() - began, 1),
                "held_out_mse": held_out,
                "mean_mse": prior,
                "mean": _numbers(mean),
                "shape": list(mean.shape),
                "range": list(pairs.input_range),
            },
        )

    def watch(self, stopped: threading.Event) -> None:
        """Rebuild the input behind every activation of the capture until `stopped` is set."""
        capture = GrowingCapture(self._config.capture.name)
        for piece in grow(self._config.capture, stopped):
            for event in capture.feed(piece):
                if isinstance(event, Observation) and event.kind is Kind.ACTIVATION:
                    self._rebuild(event)

    def _rebuild(self, seen: Observation) -> None:
        tensor = np.ascontiguousarray(seen.tensor)
        if tensor.shape[1:] != self._shape or not len(tensor):
            self._publish("skipped", {"shape": list(tensor.shape), "expected": list(self._shape)})
            return
        rows = np.nan_to_num(tensor[:_MOST_ROWS].astype(np.float32), posinf=0.0, neginf=0.0)
        began = time.monotonic()
        pictures = self._attack.guess(rows)
        spent = (time.monotonic() - began) * 1000
        for row, picture in enumerate(pictures):
            self._publish(
                "picture",
                {
                    "call": seen.call,
                    "sender": seen.sender,
                    "time": seen.time,
                    "bytes": tensor.nbytes,
                    # Lets the page see that these bits are those that it sent, and find its own input again.
                    "crc32": zlib.crc32(tensor.tobytes()),
                    "row": row,
                    "shape": list(picture.shape),
                    "pixels": _numbers(picture),
                    "milliseconds": round(spent, 1),
                },
            )


def grow(path: Path, stopped: threading.Event) -> Iterator[bytes]:
    """Yield the bytes of a file as they are written, until `stopped` is set; the file may not exist yet."""
    while not path.exists():
        if stopped.wait(_POLL_SECONDS):
            return
    with path.open("rb", buffering=0) as file:
        while not stopped.is_set():
            if piece := file.read(1 << 20):
                yield piece
            else:
                stopped.wait(_POLL_SECONDS)


def _mean_image(pairs: Knowledge) -> tuple[Array, float]:
    """Return the mean of the attacker's own pictures, and its error on those that were held out."""
    held = pairs.held_out()
    mean: Array = pairs.inputs[~held].mean(0)
    return mean, float(np.square(pairs.inputs[held] - mean).mean()) if held.any() else float("nan")


def _numbers(values: Array) -> str:
    """Return float32 values, little-endian, in base64."""
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


__all__ = ["CaptureError", "Eavesdropper", "grow"]
