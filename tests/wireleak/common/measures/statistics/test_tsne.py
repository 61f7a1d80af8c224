"""Maps of rows: neighbours stay neighbours, and rows of one number or none have a map too."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from wireleak.common.measures.statistics.tsne import tsne_map


def test_groups_that_lie_apart_stay_apart_and_a_map_can_be_repeated() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], 30)
    rows = rng.standard_normal((90, 40)) + 6 * group[:, None]
    places = tsne_map(rows.astype(np.float32))
    assert places.shape == (90, 2) and places.min() == 0 and places.max() == 1
    assert KNeighborsClassifier(5).fit(places, group).score(places, group) == 1
    assert np.array_equal(places, tsne_map(rows.astype(np.float32)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rows", [np.ones((8, 5)), np.arange(8.0)[:, None], np.zeros((8, 1)), np.eye(4)])
def test_few_equal_or_narrow_rows_have_a_map(rows: np.ndarray) -> None:
    assert np.isfinite(tsne_map(rows)).all()
