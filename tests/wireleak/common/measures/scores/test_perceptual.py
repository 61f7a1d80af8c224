"""A distance of features: zero for a copy, larger the more a picture is damaged, and blind to what MSE punishes."""

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_images

from wireleak.common.measures.scores.perceptual import FeatureDistance

pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra perceptual")


@pytest.fixture(scope="module")
def pictures() -> Any:
    found = [
        image[y : y + 96, x : x + 96] for image in load_sample_images().images for y in (100, 260) for x in (50, 400)
    ]
    return np.stack(found).transpose(0, 3, 1, 2).astype(np.float32) / 255


def score(guess: Any, truth: Any) -> Any:
    return FeatureDistance()(guess.astype(np.float32), truth, np.random.default_rng(0))


def test_a_copy_is_at_zero_and_more_blur_is_farther(pictures: Any) -> None:
    blurred = [score(gaussian_filter(pictures, (0, 0, sigma, sigma)), pictures).value for sigma in (0.5, 1.5, 4)]
    assert score(pictures, pictures).value == pytest.approx(0, abs=1e-6)
    assert 0 < blurred[0] < blurred[1] < blurred[2] < score(np.roll(pictures, 1, 0), pictures).value * 1.5


def test_a_darker_copy_is_nearer_than_a_blurred_one_of_the_same_error(pictures: Any) -> None:
    blurred = gaussian_filter(pictures, (0, 0, 2, 2))
    error = np.sqrt(((blurred - pictures) ** 2).mean())
    darker = pictures * (1 - error / np.sqrt((pictures**2).mean()))
    assert ((darker - pictures) ** 2).mean() == pytest.approx(error**2, rel=1e-3)
    assert score(darker, pictures).value < 0.7 * score(blurred, pictures).value


def test_grey_pictures_are_taken_and_blocks_change_nothing(monkeypatch: Any, pictures: Any) -> None:
    grey = pictures.mean(1, keepdims=True)
    whole = score(grey * 0.8, grey)
    monkeypatch.setattr("wireleak.common.memory.BLOCK_BYTES", 1)
    assert score(grey * 0.8, grey).value == pytest.approx(whole.value, rel=1e-4)


def test_large_pictures_are_fewer_and_the_truth_is_seen_once(monkeypatch: Any, pictures: Any) -> None:
    from wireleak.common.measures.scores import perceptual

    seen: list[int] = []
    features = perceptual._features

    def counted(images: Any) -> Any:
        seen.append(len(images))
        return features(images)

    monkeypatch.setattr(perceptual, "_features", counted)
    monkeypatch.setattr(perceptual, "_KEPT", {})
    monkeypatch.setattr(perceptual, "_PIXELS", 5 * 96 * 96)
    monkeypatch.setattr(perceptual, "_FEWEST", 4)
    assert score(pictures * 0.8, pictures).n == 5
    assert score(pictures * 0.5, pictures).n == 5
    # A prior is one picture for all: it equals the same picture, guessed for each.
    mean = np.repeat(pictures.mean(0, keepdims=True), len(pictures), axis=0)
    fixed = score(mean, pictures).value
    assert seen == [5, 5, 5, 1]
    mean[0, 0, 0, 0] += 1e-6
    assert score(mean, pictures).value == pytest.approx(fixed, rel=1e-3)


def test_many_pictures_are_drawn_from_and_small_ones_are_refused(pictures: Any) -> None:
    assert FeatureDistance(most=3)(pictures, pictures, np.random.default_rng(0)).n == 3
    with pytest.raises(ValueError, match="at least 64x64"):
        score(pictures[:, :, :40], pictures[:, :, :40])
