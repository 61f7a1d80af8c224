"""Measured attributes against known geometry and scikit-image; dependence against scikit-learn."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency
from skimage.measure import moments_central
from skimage.morphology import medial_axis
from sklearn.metrics import mutual_info_score

from wireleak.lab import data
from wireleak.lab.data.measured import geometry, median_split, thickness


def bar(width: int, lean: float = 0.0, centre: float = 20.0) -> np.ndarray:
    image = np.zeros((40, 40), np.float32)
    for row in range(4, 36):
        middle = centre + lean * (19.5 - row)
        image[row] = np.clip(width / 2 + 0.5 - np.abs(np.arange(40) + 0.5 - middle), 0, 1)
    return image


@pytest.mark.parametrize("lean", [-0.4, 0.0, 0.25])
def test_slant_of_a_sheared_bar(lean: float) -> None:
    assert geometry(bar(4, lean)[None]).slant[0] == pytest.approx(lean, abs=0.01)


def test_position_and_size() -> None:
    left, right = bar(4, centre=12), bar(4, centre=25)
    found = geometry(np.stack([left, right]))
    np.testing.assert_allclose(found.position, [12, 25], atol=1e-5)
    assert found.size[0] == pytest.approx(np.sqrt((32**2 + 4**2) / 12), rel=0.02)


def test_an_empty_image_is_centred() -> None:
    found = geometry(np.zeros((1, 10, 20), np.float32))
    assert (found.position[0], found.size[0], found.slant[0]) == (10, 0, 0)


@pytest.mark.parametrize("width", [2, 4, 6])
def test_thickness_of_a_long_bar(width: int) -> None:
    image = np.zeros((64, 64), np.float32)
    image[2:62, 20 : 20 + width] = 1
    assert thickness(image[None])[0] == pytest.approx(width * 60 / (60 + width), rel=0.03)


def test_against_scikit_image_on_real_digits() -> None:
    digits = data.load("digits").take(np.arange(0, 5000, 25))
    images = digits.x[:, 0]
    central = [moments_central(image.astype(np.float64), order=2) for image in images]
    np.testing.assert_allclose(geometry(images).slant, [-m[1, 1] / m[2, 0] for m in central], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        geometry(images).size, [np.sqrt((m[2, 0] + m[0, 2]) / m[0, 0]) for m in central], rtol=1e-4
    )
    widths = []
    for image in images:
        skeleton, distance = medial_axis(image > 0.5, return_distance=True, rng=0)
        widths.append(2 * distance[skeleton].mean())
    assert np.corrcoef(thickness(images), widths)[0, 1] > 0.85


def test_median_split_halves_every_cell() -> None:
    rng = np.random.default_rng(0)
    cells = rng.permutation(np.repeat([7, 3, 11], [20, 10, 6]))
    measure = rng.normal(size=36) + 10 * cells
    values = median_split("m", measure, cells, ("low", "high")).values
    for cell in (3, 7, 11):
        mine = cells == cell
        assert values[mine].mean() == 0.5
        assert measure[mine & (values == 1)].min() > measure[mine & (values == 0)].max()


def test_dependence_against_scikit_learn_and_scipy() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 2000)
    z = np.where(rng.random(2000) < 0.3, y, rng.integers(0, 4, 2000))
    noise = rng.integers(0, 5, 2000)
    attributes = {
        "z": data.Attribute("z", z, tuple("abcd"), False),
        "noise": data.Attribute("noise", noise, tuple("abcde"), False),
    }
    x = np.zeros((2000, 1), np.float32)
    rows = {r.attribute: r for r in data.dependence(data.Dataset("d", x, y, "t", tuple("abc"), attributes, {}, "-"))}
    for name, values in (("z", z), ("noise", noise)):
        table = np.array([[((values == a) & (y == b)).sum() for b in range(3)] for a in range(values.max() + 1)])
        test = chi2_contingency(table, correction=False)
        assert rows[name].mutual_information_bits == pytest.approx(mutual_info_score(y, values) / np.log(2))
        assert rows[name].p == pytest.approx(test.pvalue, rel=1e-6)
    assert rows["z"].cramers_v > 0.2 and rows["noise"].cramers_v < 0.1
    same = data.Attribute("same", y, tuple("abc"), False)
    one = data.dependence(data.Dataset("d", x, y, "t", tuple("abc"), {"same": same}, {}, "-"))[0]
    assert one.cramers_v == pytest.approx(1, abs=1e-3)
