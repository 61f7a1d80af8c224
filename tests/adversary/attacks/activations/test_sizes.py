from typing import Any

import numpy as np
import pytest

from adversary.attacks.activations.sizes import features, messages
from adversary.tap.decode.events import Transport
from adversary.tap.decode.traffic import SentBytes


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ([100, 100, 100], 3, [[0, 0], [1, 1], [2, 2]]),
        ([80, 250, 100, 30, 100, 100, 20], 3, [[2, 2], [4, 4], [5, 5]]),  # a preface, and control records
        ([300, 900, 700, 900, 700], 2, [[1, 2], [3, 4]]),  # two records a message
        ([200, 200], 4, [[0, 0], [0, 0], [1, 1], [1, 1]]),  # two messages a record
        ([], 4, np.zeros((0, 2))),
    ],
)
def test_messages_among_records(sizes: Any, count: int, expected: Any) -> None:
    assert messages(sizes, count).tolist() == np.asarray(expected).astype(int).tolist()


def test_features_are_sizes_gaps_and_the_answers() -> None:
    def record(time: Any, up: Any, size: Any) -> Any:
        return SentBytes("a#0", "c", "s", Transport.TLS, time, up, size)

    records = [record(1.0, True, 900), record(1.5, True, 100), record(2.0, False, 40)]
    records += [record(4.0, True, 900), record(4.0, True, 200), record(4.25, False, 44)]
    found = features(records, np.array([[0, 1], [2, 3]]))
    np.testing.assert_array_equal(found[:, 0], [1000, 1100])
    np.testing.assert_allclose(np.exp(found[:, 1]), [0.5, 1e-6], rtol=1e-4)
    np.testing.assert_allclose(np.exp(found[:, 2]), [1e-6, 2.5], rtol=1e-4)
    np.testing.assert_allclose(np.exp(found[:, 3]), [0.5, 0.25], rtol=1e-4)
    np.testing.assert_array_equal(found[:, 4], [40, 44])
