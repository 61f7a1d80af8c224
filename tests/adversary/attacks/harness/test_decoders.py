from typing import Any

import pytest
import torch

from adversary.attacks.harness.decoders import DenseDecoder, LocalDecoder, coarse, fit_sides, subpixel, upsampling


@pytest.mark.parametrize(
    ("activation", "image", "factor"),
    [
        ((16, 14, 14), (1, 28, 28), 2),
        ((32, 7, 7), (1, 28, 28), 4),
        ((32, 4, 4), (1, 28, 28), None),
        ((32, 1, 1), (1, 28, 28), None),
        ((512,), (1, 28, 28), None),
        ((8, 53, 53), (1, 105, 105), 2),
        ((8, 26, 26), (1, 105, 105), 4),
        ((16, 16, 16), (3, 32, 32), 2),
        ((64, 32), (6, 128), 4),
        ((64, 16), (6, 128), None),
        ((4, 28, 28), (1, 28, 28), 1),
        ((4, 14, 7), (1, 28, 28), None),
    ],
)
def test_shapes_decide_the_decoder_and_both_give_the_image(activation: Any, image: Any, factor: int | None) -> None:
    assert upsampling(activation, image) == factor
    mean = torch.rand(image)
    decoder = (
        DenseDecoder(activation, image, 0.25, mean, 0.1)
        if factor is None
        else LocalDecoder(activation, image, factor, 0.25, mean)
    )
    assert decoder(torch.randn(3, *activation)).shape == (3, *image)


def test_subpixel_in_one_dimension_is_torchs_in_two() -> None:
    maps = torch.arange(2 * 6 * 5.0).view(2, 6, 5)
    rows = maps.view(2, 2, 1, 3, 5).expand(2, 2, 3, 3, 5).reshape(2, 18, 1, 5)
    square = torch.nn.functional.pixel_shuffle(rows, 3)
    assert torch.equal(subpixel(maps, 3), square[:, :, 0])


def test_sides_are_cropped_and_repeated_evenly() -> None:
    row = torch.arange(1.0, 5).view(1, 1, 4)
    assert fit_sides(row, torch.Size([2])).flatten().tolist() == [2, 3]
    assert fit_sides(row, torch.Size([6])).flatten().tolist() == [1, 1, 2, 3, 4, 4]
    assert fit_sides(row, torch.Size([4])) is row


@pytest.mark.parametrize(
    # Of a picture that the image crops, the pixels outside are unknown.
    ("activation", "image", "factor", "most"),
    [((6, 14, 14), (1, 28, 28), 2, 1e-3), ((4, 9, 9), (2, 17, 17), 2, 0.03), ((5, 32), (3, 128), 4, 1e-3)],
)
def test_a_local_decoder_that_starts_linear_knows_what_is_linear(
    activation: Any, image: Any, factor: int, most: float
) -> None:
    torch.manual_seed(0)
    truth, learner = (LocalDecoder(activation, image, factor, 1.0, torch.rand(image)) for _ in range(2))
    learner.mean.data = truth.mean.data
    truth.outer.load_state_dict({name: torch.zeros_like(value) for name, value in truth.outer.state_dict().items()})
    with torch.no_grad():
        pairs = torch.randn(200, *activation)
        assert learner.start_linear(pairs, truth(pairs))
        fresh = torch.randn(20, *activation)
        error = torch.nn.functional.mse_loss(learner(fresh), truth(fresh)) / truth(fresh).var()
    assert error < most


def test_a_linear_path_with_too_many_weights_starts_as_it_was() -> None:
    decoder = LocalDecoder((128, 4, 4), (1, 8, 8), 2, 1.0, torch.rand(1, 8, 8))
    before = decoder.linear.weight.clone()
    assert not decoder.start_linear(torch.randn(5, 128, 4, 4), torch.rand(5, 1, 8, 8))
    assert torch.equal(decoder.linear.weight, before)


@pytest.mark.parametrize("shape", [(2, 12, 5), (2, 12, 5, 4)])
def test_coarse_undoes_subpixel(shape: Any) -> None:
    maps = torch.randn(shape)
    assert torch.equal(coarse(subpixel(maps, 2), 2), maps)
