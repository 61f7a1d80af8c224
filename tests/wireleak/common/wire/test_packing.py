"""Packed arrays come back bit for bit, and damaged ones are refused."""

from __future__ import annotations

import contextlib
import json
from typing import Any, cast

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from wireleak.common.wire.flower import packed, unpacked
from wireleak.common.wire.packing import PackingError, pack, unpack

KINDS = st.sampled_from([np.dtype(kind) for kind in ("<f4", ">f8", "<f2", "<i8", "|u1", "|b1", "<c16")])
SHAPES = arrays_of.array_shapes(min_dims=0, min_side=0, max_side=4)
NAMES = st.tuples(st.text(max_size=8), st.text(max_size=8))
NAMED = st.dictionaries(NAMES, KINDS.flatmap(lambda kind: arrays_of.arrays(kind, SHAPES)), max_size=5)


@given(NAMED)
def test_every_array_comes_back_bit_for_bit_and_in_order(arrays: Any) -> None:
    data, layout = pack(arrays)
    back = unpack(data, layout)
    assert list(back) == list(arrays)
    for name, values in arrays.items():
        assert (back[name].dtype, back[name].shape) == (values.dtype, values.shape)
        assert back[name].tobytes() == values.tobytes()
        assert back[name].flags.aligned and not back[name].flags.writeable


def test_arrays_in_fortran_order_keep_their_values() -> None:
    values = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(unpack(*pack({("a", "w"): values}))["a", "w"], values)


@pytest.mark.parametrize(
    "layout",
    [
        "{",
        "{}",
        "null",
        "[1]",
        '[["a", "w", "<f4"]]',
        '[["a", "w", "<f4", [2]], ["a", "w", "<f4", [2]]]',
        '[["a", "w", "<f4", [3]]]',
        '[["a", "w", "<f4", [5]]]',
        '[["a", "w", "<f4", [-4]]]',
        '[["a", "w", "<f4", [true, 4]]]',
        '[["a", "w", "<f4", 4]]',
        '[["a", "w", "<f4", [1e9]]]',
        '[["a", "w", "|O", [2]]]',
        '[["a", "w", "f4,f4", [2]]]',
        '[["a", "w", "<M8", [2]]]',
        '[["a", 7, "<f4", [4]]]',
        json.dumps([["a", "w", "<f4", [1] * 40 + [4]]]),
        "[" * 100_000,
    ],
)
def test_a_layout_that_does_not_fit_is_refused(layout: str) -> None:
    with pytest.raises(PackingError):
        unpack(np.arange(4, dtype=np.float32).tobytes(), layout)


@given(st.binary(max_size=40), st.text(max_size=60))
def test_random_layouts_raise_only_packing_errors(data: bytes, layout: str) -> None:
    with contextlib.suppress(PackingError):
        unpack(data, layout)


def test_objects_cannot_be_packed() -> None:
    with pytest.raises(PackingError, match="w: object cannot be packed"):
        pack({("a", "w"): np.array([{}], dtype=object)})


def test_a_message_is_packed_to_one_record_and_back() -> None:
    values = {"w": np.arange(3, dtype=np.float32), "count": np.array(7)}
    record = ArrayRecord({name: Array(array) for name, array in values.items()})
    metrics = MetricRecord({"loss": 0.5})
    content = RecordDict({"arrays": record, "metrics": metrics})
    sent = packed(content)
    assert list(sent) == ["packed"] and not sent.array_records
    back = unpacked(sent)
    assert back is not None and list(back) == ["arrays", "metrics"]
    for name, array in back.array_records["arrays"].items():
        np.testing.assert_array_equal(array.numpy(), values[name])
    assert back.metric_records["metrics"] == metrics
    assert unpacked(content) is None
    assert packed(RecordDict({"metrics": metrics})) == RecordDict({"metrics": metrics})


@pytest.mark.parametrize(
    "change",
    [
        {"layout": 7},
        {"layout": ["w"]},
        {"layout": '[["arrays", "w", "<f4", [3]]]'},
        {"packed": "text"},
        {"records": 7},
        {"records": ["nothing/arrays"]},
        {"records": ["metrics/config"], "metrics/config/word": "text"},
    ],
)
def test_a_damaged_record_is_refused(change: Any) -> None:
    whole = {"packed": b"12345678", "layout": '[["arrays", "w", "<f4", [2]]]', "records": ["arrays/arrays"]}
    assert unpacked(RecordDict({"packed": ConfigRecord(cast(Any, whole))})) is not None
    with pytest.raises(PackingError):
        unpacked(RecordDict({"packed": ConfigRecord(cast(Any, whole | change))}))
