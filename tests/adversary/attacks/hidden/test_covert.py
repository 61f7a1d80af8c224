"""The layout, bit by bit, and the attack on captures that hide nothing."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.harness.run import attack
from adversary.attacks.hidden.covert import Covert, CovertOptions
from wireleak.common.wire.hidden import layout


def fitted(shape: Any, span: Any = (0.0, 1.0), **options: Any) -> Covert:
    one = Covert(CovertOptions(**options), 0)
    empty = Knowledge(
        np.zeros(0, np.float32), np.zeros((0, *shape), np.float32), np.zeros(0, np.int64), None, 0, np.zeros(0, bool), 0
    )
    one.fit(replace(empty, input_range=span))
    return one


def test_the_layout_is_the_documented_one() -> None:
    """Four pixels of 8 bits, then 16 bits of CRC-32, into the low halves of three numbers, most significant first."""
    picture = bytes([0, 51, 255, 102])
    payload = picture + (zlib.crc32(picture) & 0xFFFF).to_bytes(2, "big")
    words = [0x3FC00000 | half for half in struct.unpack(">3H", payload)]
    seen = np.array([words, [0x3FC00000] * 3], np.uint32).view(np.float32)
    guess = fitted((1, 2, 2), span=(-1.0, 1.0)).guess(seen)
    want = np.array([0, 51, 255, 102]).reshape(1, 2, 2) / 255 * 2 - 1
    assert np.allclose(guess[0], want, atol=1e-6)
    # The second message's checksum fails; its guess is what is known of the others.
    assert np.allclose(guess[1], want, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "room", "depth", "fits"),
    [
        ((1, 28, 28), 512, None, ((22, 22), 1)),
        ((1, 28, 28), 784 * 8 + 16, None, ((28, 28), 8)),
        ((1, 28, 28), 784 * 8 + 15, None, ((28, 28), 4)),
        ((3, 32, 32), 1024, 4, ((9, 9), 4)),
        ((6, 100), 5000, None, ((100,), 8)),
        ((1, 28, 28), 16, None, ((), 1)),
    ],
)
def test_what_fits(shape: Any, room: Any, depth: int | None, fits: Any) -> None:
    """The first is the anchors' 22 x 22 picture in 32 numbers."""
    assert layout(shape, room, depth) == fits


def test_captures_that_hide_nothing_give_black_pictures(config: Any) -> None:
    path, out = config(attack="covert")
    attack(path)
    meta = json.loads((out / "meta.json").read_text())
    with np.load(out / "guesses.npz") as guesses:
        assert not guesses["covert"].any()
    assert meta["fit"]["pictures_whole"] == 0 and meta["threat"]["knows"] == ["nothing"]
    assert meta["fit"]["pairs"] == 0


def test_flat_inputs_are_refused_in_one_line() -> None:
    with pytest.raises(
        ValueError, match=r"attack: covert rebuilds pictures and sensor windows, not inputs of shape \(20,\)"
    ):
        fitted((20,))
