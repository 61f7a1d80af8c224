import numpy as np
import pytest
from sklearn.decomposition import PCA

from wireleak.common.measures.scores.priors import linear_code


@pytest.mark.parametrize("rows", [40, 8])
def test_a_linear_code_rebuilds_as_principal_components_do(rows: int) -> None:
    draw = np.random.default_rng(rows)
    own = draw.random((rows, 1, 4, 3), np.float32)
    inputs = draw.random((5, 1, 4, 3), np.float32)
    fitted = PCA(4).fit(own.reshape(rows, -1))
    wanted = fitted.inverse_transform(fitted.transform(inputs.reshape(5, -1))).reshape(inputs.shape)
    np.testing.assert_allclose(linear_code(own, inputs, 4), wanted, atol=1e-5)
