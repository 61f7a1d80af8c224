"""Padding: sizes on the wire are the bucket's, and what a message says stays what it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from wireleak.common.config import PadConfig
from wireleak.common.wire import decode_tensor, encode_tensor
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.wire.channel import MAX_MESSAGE_BYTES
from wireleak.common.wire.padding import bucket, pad_message


def request(count: int, sequence: int = 0) -> pb.PredictRequest:
    return pb.PredictRequest(sequence=sequence, activation=encode_tensor(np.arange(count, dtype=np.uint8)))


@given(st.integers(0, 40_000), st.integers(0, 2**40), st.one_of(st.integers(1, 70_000), st.just("powers")))
def test_a_message_is_its_bucket_s_size_and_says_the_same(count: Any, sequence: Any, pad: Any) -> None:
    plain = request(count, sequence)
    padded = pad_message(request(count, sequence), pad)
    sent = padded.SerializeToString()
    assert len(sent) == bucket(len(plain.SerializeToString()), pad)
    read = pb.PredictRequest.FromString(sent)
    assert read.sequence == sequence
    assert np.array_equal(decode_tensor(read.activation), np.arange(count, dtype=np.uint8))


@pytest.mark.parametrize("pad", [1, 2, 3, 130, 131, 16_387, 4096])
def test_every_size_finds_its_bucket(pad: int) -> None:
    """Sizes at which one padding field cannot fill the rest (130 bytes, 16,387) are filled by two."""
    for count in range(600):
        size = len(pad_message(request(count), pad).SerializeToString())
        assert size % pad == 0 and 2 <= size - len(request(count).SerializeToString()) < pad + 2


def test_a_longer_message_never_gets_a_smaller_bucket() -> None:
    for pad in (1000, "powers"):
        buckets = [bucket(size, pad) for size in range(5000)]
        assert buckets == sorted(buckets)
    assert {bucket(size, 1000) for size in range(999, 1999)} == {2000}
    assert [bucket(size, "powers") for size in (0, 1, 2, 6, 7, 4094, 4095)] == [2, 4, 4, 8, 16, 4096, 8192]


def test_what_no_bucket_holds_keeps_its_size() -> None:
    largest = MAX_MESSAGE_BYTES - 10
    assert bucket(largest, "powers") == bucket(largest, 4096 * 4097) == largest
    assert bucket(largest, 4096) == MAX_MESSAGE_BYTES


def test_without_padding_nothing_changes() -> None:
    assert pad_message(request(7), None).SerializeToString() == request(7).SerializeToString()


@pytest.mark.parametrize("pad", [0, -1, "power", 1.5, True, MAX_MESSAGE_BYTES + 1])
def test_no_size_is_one_line(pad: Any) -> None:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(PadConfig).validate_python(pad)
    assert error.value.error_count() == 1 and 'give bytes from 1 to 83886080, or "powers"' in str(error.value)
