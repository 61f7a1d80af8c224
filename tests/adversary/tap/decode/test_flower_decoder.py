"""Messages of older Flower that lack a part are named as broken, and cost nothing else."""

from __future__ import annotations

import pytest

from adversary.tap.decode.flower import FlowerDecoder
from adversary.tap.decode.payload import PayloadError


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of protobuf, short enough for a length of one byte."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def test_an_array_without_a_value_is_a_fault_of_its_message() -> None:
    record = field(1, field(1, field(1, b"weight")))  # a pair with a key alone
    message = field(2, field(2, field(1, field(2, record))))
    with pytest.raises(PayloadError, match="is no PullMessages of Flower"):
        list(FlowerDecoder().feed("/flwr.proto.Fleet/PullMessages", False, message, "call", "server", 0.0))
