"""Acceptance test 9: the encoder's gradient is -strength x the plain one, the adversary's own is unscaled."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from client.gradient_reversal import GradientReversal, adversary_head


def parts(strength, seed=0):
    """Encoder, task head, adversary and a batch with task labels y and private labels z."""
    torch.manual_seed(seed)
    encoder = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh())
    task = torch.nn.Linear(5, 3)
    adversary = adversary_head(5, 2, strength, hidden=7)
    return encoder, task, adversary, torch.randn(16, 6), torch.randint(0, 3, (16,)), torch.randint(0, 2, (16,))


def gradients(module):
    return [parameter.grad.clone() for parameter in module.parameters()]


def adversary_gradients(strength, plain=False):
    encoder, _, adversary, x, _, z = parts(strength)
    head = adversary[1:] if plain else adversary  # without the reversal layer
    cross_entropy(head(encoder(x)), z).backward()
    return gradients(encoder), gradients(adversary)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 3.0])
def test_encoder_gets_minus_strength_times_the_plain_gradient_and_the_adversary_its_own(strength):
    plain_encoder, plain_adversary = adversary_gradients(strength, plain=True)
    encoder, adversary = adversary_gradients(strength)
    assert any(g.abs().max() > 1e-4 for g in plain_encoder)
    for got, plain in zip(encoder, plain_encoder, strict=True):
        assert torch.allclose(got, -strength * plain, rtol=1e-5, atol=1e-9)
    assert all(torch.equal(got, plain) for got, plain in zip(adversary, plain_adversary, strict=True))


def test_forward_is_the_identity():
    x = torch.randn(4, 2, 3)
    assert torch.equal(GradientReversal(2.0)(x), x)


def trained(strength, with_adversary):
    encoder, task, adversary, x, y, z = parts(strength, seed=1)
    start = copy.deepcopy(encoder.state_dict())
    modules = [encoder, task, *([adversary] if with_adversary else [])]
    optimiser = torch.optim.SGD([p for module in modules for p in module.parameters()], lr=0.5, momentum=0.9)
    for _ in range(20):
        h = encoder(x)
        loss = cross_entropy(task(h), y)
        if with_adversary:
            loss = loss + cross_entropy(adversary(h), z)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert not torch.equal(encoder[0].weight, start["0.weight"])
    return encoder, adversary


def test_strength_0_reproduces_the_baseline_bit_for_bit_while_the_adversary_learns():
    baseline, untouched = trained(0.0, with_adversary=False)
    encoder, adversary = trained(0.0, with_adversary=True)
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), baseline.parameters(), strict=True))
    assert not torch.equal(adversary[2].weight, untouched[2].weight)


def test_strength_changes_the_encoder():
    baseline, _ = trained(0.0, with_adversary=False)
    encoder, _ = trained(1.0, with_adversary=True)
    assert not torch.allclose(encoder[0].weight, baseline[0].weight, atol=1e-3)


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_impossible_strength_is_refused(strength):
    with pytest.raises(ValueError, match="strength"):
        GradientReversal(strength)
