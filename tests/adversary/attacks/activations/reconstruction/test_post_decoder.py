"""The decoder of the model-inversion post: shapes and parameter counts, and the attack on a real capture."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from adversary.attacks.activations.reconstruction.post_decoder import PostDecoder, decoder
from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.harness.run import attack


def sides(network: Any, floats: Any) -> Any:
    z, found = torch.zeros(1, floats, 1, 1), []
    for layer in network:
        z = layer(z)
        if isinstance(layer, torch.nn.ConvTranspose2d):
            found.append(tuple(z.shape[2:]))
    return found


def test_it_has_the_posts_layers_and_parameters() -> None:
    network = decoder(32, (1, 105, 105))
    layers = [layer for layer in network if isinstance(layer, torch.nn.ConvTranspose2d)]
    assert sum(parameter.numel() for parameter in network.parameters()) == 134_779
    assert sides(network, 32) == [(9, 9), (23, 23), (51, 51), (105, 105)]
    assert [(one.out_channels, one.kernel_size[0], one.stride[0]) for one in layers] == [
        (32, 9, 1), (32, 7, 2), (1, 7, 2), (1, 5, 2)
    ]  # fmt: skip
    assert isinstance(network[-1], torch.nn.ReLU)


@pytest.mark.parametrize("image", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 33, 60), (2, 101, 224)])
def test_other_images_are_reached_exactly(image: Any) -> None:
    assert sides(decoder(5, image), 5)[-1] == image[1:]
    assert decoder(5, image)(torch.zeros(2, 5, 1, 1)).shape == (2, *image)


@pytest.mark.parametrize("image", [(6, 128), (1, 7, 28)])
def test_what_is_no_image_is_refused(image: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^attack: post-decoder rebuilds images of at least 8x8 pixels, not inputs of shape"
    ):
        decoder(32, image)


def drawings(n: Any, seed: Any = 0) -> Any:
    """Dark pictures with a bright bar whose column and row are what crosses the wire."""
    where = np.random.default_rng(seed).random((n, 2)).astype(np.float32)
    rows, columns = np.mgrid[0:12, 0:12] / 12
    x = np.maximum(
        abs(columns[None] - where[:, 0, None, None]) < 0.1, abs(rows[None] - where[:, 1, None, None]) < 0.1
    ).astype(np.float32)[:, None]
    return where[:, :, None, None], x


def known(seen: Any, x: Any, augmented: Any = None) -> Knowledge:
    n = len(x)
    return Knowledge(seen, x, np.zeros(n, np.int64), None, 0, np.zeros(n, bool) if augmented is None else augmented, 0)


def fitted(knowledge: Any, epochs: Any = 30) -> PostDecoder:
    one = PostDecoder(PostDecoder.options(epochs=epochs), seed=1)
    one.fit(knowledge)
    return one


def test_dark_drawings_do_not_kill_the_last_relu_and_their_negatives_give_the_negative_guess() -> None:
    (seen, x), (victims, truth) = drawings(400), drawings(100, seed=1)
    dark, bright = fitted(known(seen, x)), fitted(known(seen, 1 - x))
    guess = dark.guess(victims)
    assert ((guess - truth) ** 2).mean() < 0.9 * ((x.mean(0) - truth) ** 2).mean() < 0.9 * (truth**2).mean()
    np.testing.assert_allclose(bright.guess(victims), 1 - guess, atol=1e-5)
    assert dark.report["measured"] == pytest.approx(bright.report["measured"], rel=1e-4)
    own = ((dark.guess(seen) - x) ** 2).mean()
    assert dark.report["measured"]["training-mse"] == pytest.approx(own, rel=0.1)


def test_the_first_epoch_is_the_first_pass_in_the_order_of_the_wire() -> None:
    """Oracle: torch, by hand, on the first two batches."""
    seen, x = drawings(40)
    one = fitted(known(seen, 1 - x), epochs=1)
    torch.manual_seed(1)
    network = decoder(2, (1, 12, 12))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, eps=1e-7)
    total = 0.0
    for rows in (slice(0, 32), slice(32, 40)):
        loss = ((network(torch.from_numpy(seen[rows])) - torch.from_numpy(1 - x[rows])) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total += loss.item() * len(x[rows])
    assert one.report["measured"]["training-mse"] == pytest.approx(total / 40, rel=1e-5)


def test_transformed_copies_are_not_learnt() -> None:
    seen, x = drawings(64)
    lies = np.concatenate([x, 1 - x])
    twice = known(np.concatenate([seen, seen]), lies, np.arange(128) >= 64)
    alone, beside = fitted(known(seen, x), 2), fitted(twice, 2)
    np.testing.assert_array_equal(alone.guess(seen), beside.guess(seen))
    assert beside.report["pairs"] == 64


def test_it_rebuilds_from_a_capture_beside_its_controls(config: Any, world: Any) -> None:
    path, out = config(attack="post-decoder", options={"epochs": 150})
    attack(path)
    meta = json.loads((out / "meta.json").read_text())
    with np.load(out / "guesses.npz") as stored:
        errors = {name: float(((stored[name] - world.private) ** 2).mean()) for name in stored.files}
        assert (stored["control:background"] == np.median(world.own[:240])).all()
    assert errors["post-decoder"] < 0.7 * errors["control:mean"]
    assert errors["post-decoder"] < errors["control:shuffled"]
    assert errors["control:mean"] <= errors["control:background"] * 1.01
    assert 0 < meta["fit"]["measured"]["training-mse"] < errors["control:mean"]
    assert meta["fit"]["pairs"] == 240
