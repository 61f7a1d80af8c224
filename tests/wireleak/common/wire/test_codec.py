import contextlib
import subprocess
import sys
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wireleak.common.wire import Bounds, WireError, decode_labels, decode_tensor, encode_tensor
from wireleak.common.wire import split_head_pb2 as pb

ARRAYS = hnp.arrays(
    dtype=st.sampled_from([np.float32, np.float16, np.int64, np.uint8]), shape=hnp.array_shapes(min_dims=0, max_dims=4)
)


@given(ARRAYS)
def test_round_trip_is_bit_equal(array: Any) -> None:
    message = pb.Tensor.FromString(encode_tensor(array).SerializeToString())
    decoded = decode_tensor(message, finite=False)
    assert decoded.dtype == array.dtype and decoded.shape == array.shape
    assert decoded.tobytes() == array.tobytes()


def test_a_big_endian_array_crosses_as_little_endian() -> None:
    assert encode_tensor(np.array([1.0], dtype=">f4")).data == np.array([1.0], dtype="<f4").tobytes()


def test_a_dtype_that_cannot_cross_is_named() -> None:
    with pytest.raises(WireError, match="complex128"):
        encode_tensor(np.zeros(1, dtype=complex))


@pytest.mark.parametrize(
    ("tensor", "field"),
    [
        (pb.Tensor(dtype=cast("pb.DType.ValueType", 99)), "z.dtype"),
        (pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[1] * 9, data=b"1234"), "z.shape"),
        (pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[2**31, 2**31]), "z.shape"),
        (pb.Tensor(dtype=pb.DTYPE_UINT8, shape=[200], data=bytes(200)), "z.data"),
        (pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=[2], data=bytes(7)), "z.data"),
        (encode_tensor(np.zeros((2, 4), np.float32)), "z.shape"),
        (encode_tensor(np.array([[1.0, np.nan, 0.0]], np.float32)), "z.data"),
        (encode_tensor(np.array([[np.inf, 1.0, 0.0]], np.float32)), "z.data"),
    ],
)
def test_each_broken_rule_names_its_field(tensor: Any, field: str) -> None:
    with pytest.raises(WireError) as error:
        decode_tensor(tensor, "z", shape=(None, 3), bounds=Bounds(max_bytes=100))
    assert error.value.field == field


@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused_or_decoded_within_bounds(data: Any) -> None:
    try:
        tensor = pb.Tensor.FromString(data)
    except Exception as error:
        assert type(error).__name__ == "DecodeError"
        return
    with contextlib.suppress(WireError):
        assert decode_tensor(tensor).nbytes <= len(data)


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        (np.array([0, 3]), "label.data"),
        (np.array([-1, 0]), "label.data"),
        (np.array([0, 1, 1]), "label.shape"),
        (np.array([0, 1], np.float32), "label.dtype"),
    ],
)
def test_labels_out_of_range_shape_or_dtype(labels: Any, field: str) -> None:
    with pytest.raises(WireError) as error:
        decode_labels(encode_tensor(labels), batch=2, classes=3)
    assert error.value.field == field


def test_the_wire_imports_neither_torch_nor_pydantic() -> None:
    code = "import sys, wireleak.common.wire; print({'torch', 'pydantic', 'flwr'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
