"""Long messages are decoded without protobuf's copies, and to the same tensors and errors."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adversary.tap.decode import splithead
from adversary.tap.decode.fields import UnusualError, take_out
from adversary.tap.decode.observation import Kind
from adversary.tap.decode.payload import PayloadError
from wireleak.common.wire import encode_tensor
from wireleak.common.wire import split_head_pb2 as pb

PREDICT, TRAIN = "/wireleak.v1.SplitHead/Predict", "/wireleak.v1.SplitHead/Train"


def decoded(method: str, client: bool, data: bytes, long: int) -> Any:
    """What is decoded where messages of `long` bytes and more are long: tensors with their bytes, or the error."""
    patch = pytest.MonkeyPatch()
    patch.setattr(splithead, "_LONG", long)
    try:
        found = splithead.tensors(method, client, data)
        return [(kind, one.shape, one.dtype, one.tobytes(), one.flags.writeable) for kind, one in found]
    except PayloadError as error:
        return str(error)
    finally:
        patch.undo()


def same(method: str, client: bool, data: bytes) -> Any:
    """Decode both ways, compare, and return the result."""
    ours, library = (decoded(method, client, data, long) for long in (0, 1 << 40))
    assert ours == library
    return ours


ARRAYS = st.sampled_from(
    [np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.zeros((0, 5), np.float32), np.array(7, np.uint8)]
)


@given(ARRAYS, ARRAYS, st.integers(0, 2**64 - 1), st.binary(max_size=40))
def test_a_message_is_decoded_as_protobuf_decodes_it(activation: Any, label: Any, number: int, padding: bytes) -> None:
    request = pb.TrainRequest(
        sequence=number, activation=encode_tensor(activation), label=encode_tensor(label), padding=[padding]
    )
    kinds = [kind for kind, *_ in same(TRAIN, True, request.SerializeToString())]
    assert kinds == [Kind.ACTIVATION, Kind.LABEL]
    response = pb.TrainResponse(sequence=number, activation_gradient=encode_tensor(activation), loss=0.5)
    assert len(same(TRAIN, False, response.SerializeToString())) == 1


@given(st.data())
def test_a_broken_message_gives_the_same_error_or_tensors(data: st.DataObject) -> None:
    whole = bytearray(
        pb.PredictRequest(sequence=3, activation=encode_tensor(np.arange(6, dtype=np.float32))).SerializeToString()
    )
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    same(PREDICT, True, bytes(whole[: data.draw(st.integers(0, len(whole)))]))


def test_fields_in_any_order_twice_or_unknown_are_protobufs_affair() -> None:
    first = encode_tensor(np.arange(6, dtype=np.float32))
    request = pb.PredictRequest(activation=first).SerializeToString()
    sequence = pb.PredictRequest(sequence=5).SerializeToString()
    later = pb.PredictRequest(activation=pb.Tensor(data=b"1234" * 6)).SerializeToString()
    group = b"\x5b\x5c"
    assert len(same(PREDICT, True, request + sequence)) == 1
    # A field that occurs twice is merged: the later data count.
    ((_, _, _, content, _),) = same(PREDICT, True, request + later)
    assert content == b"1234" * 6
    for unknown in (group, b"\xa5\x06abcd", b"\xa1\x06abcdefgh", b"\xa8\x06\x01", b"\xaa\x06\x02hi"):
        assert len(same(PREDICT, True, unknown + request)) == 1
    for broken in (request[:-1], request + b"\xff", b"\xff" * 11 + request, b"\x00\x01" + request):
        assert isinstance(same(PREDICT, True, broken), str)


def test_a_long_field_is_a_view_of_the_message() -> None:
    message = memoryview(pb.Tensor(dtype=pb.DTYPE_UINT8, shape=[1 << 20], data=b"x" * (1 << 20)).SerializeToString())
    rest, taken = take_out(message, [3])
    assert len(rest) < 20 and taken[3].obj is message.obj
    with pytest.raises(UnusualError, match="twice"):
        take_out(memoryview(b"\x1a\x01x\x1a\x01y"), [3])
