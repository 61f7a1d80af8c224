"""Adversarial generation: its decoders learn, the encoder makes them fail, and stops where a blind guess is as good."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from client.transforms.registry import Batch, Scene, make
from client.transforms.trained.regeneration import TextRegenerator, ValueRegenerator, regenerator
from wireleak.common.config import ConfigError, Plugin

PICTURES = ((1, 12, 12), (8, 6, 6))


def one(shapes: tuple[tuple[int, ...], tuple[int, ...]] = PICTURES, **options: Any) -> Any:
    transform = make(Plugin(name="adversarial-generation", options=options), seed=0)
    return transform, transform.prepare(Scene(*shapes, {}, 0.01))


def pictures(count: int) -> torch.Tensor:
    """Bright squares somewhere on black."""
    draw = torch.Generator().manual_seed(0)
    x = torch.zeros(count, 1, 12, 12)
    for picture, (row, column) in zip(x, torch.randint(0, 8, (count, 2), generator=draw).tolist(), strict=True):
        picture[:, row : row + 4, column : column + 4] = 1
    return x


def texts(count: int) -> torch.Tensor:
    """Each text says one of five words over and over, and pads."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(1, 6, (count, 1), generator=draw).float().repeat(1, 6)
    x[::2, 4:] = 0
    return x


def batch(inputs: torch.Tensor) -> Batch:
    return Batch(inputs, torch.zeros(len(inputs)).long(), {}, 0.0)


def picture_encoder() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.Tanh())


class OneHot(nn.Module):
    """A text's first word: all that its decoder needs to know."""

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(words[:, 0].long(), 6).float()


@pytest.mark.parametrize(
    ("shapes", "encoder", "inputs", "rate"),
    [
        (PICTURES, picture_encoder, pictures, 0.03),
        (((1, 12, 12), (288,)), lambda: nn.Sequential(picture_encoder(), nn.Flatten()), pictures, 0.003),
        (((6,), (6,)), OneHot, texts, 0.03),
    ],
)
def test_a_decoder_learns_from_a_frozen_encoder(shapes: Any, encoder: Any, inputs: Any, rate: float) -> None:
    transform, _ = one(shapes, weight=0.0, width=64, learning_rate=rate)
    x, module = inputs(32), encoder()
    with torch.no_grad():
        h = module(x)
    for _ in range(50):
        transform.loss(h.requires_grad_(), batch(x))
    h.grad = None
    transform._losses.zero_()
    transform._seen = 0
    transform.loss(h, batch(x))
    told = transform.told()
    assert told["decoder-loss"] < 0.5 * told["blind-loss"]


def test_losses_and_blind_guesses_are_torch_s_own() -> None:
    x = pictures(8)
    h = torch.randn(8, 8, 6, 6)
    decoder = regenerator((8, 6, 6), (1, 12, 12), 64)
    assert isinstance(decoder, ValueRegenerator)
    assert decoder.losses(h, x).mean().item() == pytest.approx(mse_loss(decoder.decoder(h), x).item(), rel=1e-5)
    parts = [decoder.blind(part) for part in x.split(3)]
    torch.testing.assert_close(parts[2], (x[6:] - x.mean(0)).square().flatten(1).mean(1))
    torch.testing.assert_close(parts[0], (x[:3] - x[:3].mean(0)).square().flatten(1).mean(1))


def test_a_text_s_loss_is_its_words_mean_cross_entropy_under_teacher_forcing() -> None:
    """Oracle: torch's LSTMCell, fed one word after the other."""
    torch.manual_seed(0)
    decoder = TextRegenerator(features=4, width=5)
    x, h = torch.tensor([[3.0, 7.0, 2.0], [5003.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), torch.randn(3, 4)
    cell = nn.LSTMCell(32, 5)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in decoder.cell.state_dict().items()})
    want = []
    for words, state in zip([[3, 7, 2], [3]], decoder.state(h), strict=False):
        hidden, memory, nats = torch.zeros(1, 5), state[None], []
        for before, word in zip([0, *words], words, strict=False):
            hidden, memory = cell(decoder.embedding(torch.tensor([before])), (hidden, memory))
            nats.append(cross_entropy(decoder.words(hidden), torch.tensor([word])))
        want.append(torch.stack(nats).mean())
    torch.testing.assert_close(decoder.losses(h, x), torch.stack([*want, torch.tensor(0.0)]))
    # Words 3 twice of four, 7 and 2 once each.
    torch.testing.assert_close(decoder.blind(x), torch.tensor([(2 * 4 * 4.0) ** (1 / 3), 2.0, 1.0]).log())


@pytest.mark.parametrize(("shapes", "inputs"), [(PICTURES, pictures), (((6,), (6,)), texts)])
def test_the_encoder_s_gradient_is_minus_weight_times_autograd_s_and_raises_the_decoder_s_error(
    shapes: Any, inputs: Any
) -> None:
    transform, decoder = one(shapes, weight=3.0, margin=1e6, steps=3)
    x = inputs(8)
    h = torch.randn(8, *shapes[1], requires_grad=True)
    plain, leaf = copy.deepcopy(decoder), h.detach().clone().requires_grad_()
    optimiser = torch.optim.Adam(plain.parameters(), lr=0.01)
    for step in range(3):
        if step:
            optimiser.step()
        optimiser.zero_grad()
        leaf.grad = None
        plain.losses(leaf, x).mean().backward()
    loss = transform.loss(h, batch(x))
    loss.backward()
    assert leaf.grad is not None and h.grad is not None and leaf.grad.abs().max() > 1e-6
    torch.testing.assert_close(h.grad, -3 * leaf.grad)
    assert loss.item() == pytest.approx(-3 * plain.losses(leaf, x).mean().item(), rel=1e-5)
    for got, want in zip(decoder.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(got.grad, want.grad)
    with torch.no_grad():
        stepped = h - 0.05 * h.grad / h.grad.norm()
        assert plain.losses(stepped, x).mean() > plain.losses(h, x).mean()


def test_an_example_at_the_margin_is_left_alone() -> None:
    transform, decoder = one(weight=1.0, margin=1.0)
    x, h = pictures(8), torch.randn(8, 8, 6, 6, requires_grad=True)
    with torch.no_grad():
        found, blind = decoder.losses(h, x), copy.deepcopy(decoder).blind(x)
    middle = (found / blind).sort().values[3:5].mean().item()
    transform, _ = one(weight=1.0, margin=middle)
    loss = transform.loss(h, batch(x))
    loss.backward()
    assert h.grad is not None
    moved = h.grad.flatten(1).abs().amax(1) > 0
    assert moved.sum() == 4 and torch.equal(moved, found / blind < middle)
    assert loss.item() == pytest.approx(-torch.minimum(found, middle * blind).mean().item(), rel=1e-5)


@pytest.mark.parametrize(("shapes", "inputs"), [(PICTURES, pictures), (((6,), (6,)), texts)])
def test_training_against_it_raises_the_decoder_s_error_up_to_a_blind_guess_s(shapes: Any, inputs: Any) -> None:
    errors = []
    for weight in (0.0, 20.0):
        transform, _ = one(shapes, weight=weight, width=64, learning_rate=0.03)
        x = inputs(32)
        torch.manual_seed(0)
        encoder = picture_encoder() if shapes == PICTURES else nn.Sequential(OneHot(), nn.Linear(6, 6), nn.Tanh())
        optimiser = torch.optim.Adam(encoder.parameters(), lr=0.01)
        for step in range(80):
            if step == 70:
                transform._losses.zero_()
                transform._seen = 0
            optimiser.zero_grad()
            transform.loss(encoder(x), batch(x)).backward()
            optimiser.step()
        errors.append(transform.told())
    assert errors[1]["decoder-loss"] > 1.3 * errors[0]["decoder-loss"]
    assert errors[1]["decoder-loss"] < 2 * errors[1]["blind-loss"]


def test_inputs_of_one_axis_that_are_no_word_numbers_are_refused() -> None:
    transform, _ = one(((6,), (6,)))
    with pytest.raises(ConfigError, match=r"^transforms.adversarial-generation: .* word numbers, and these are not"):
        transform.loss(torch.randn(3, 6, requires_grad=True), batch(torch.rand(3, 6)))
