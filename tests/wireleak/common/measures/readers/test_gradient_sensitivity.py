"""Both sensitivities against explicit Jacobians of tiny networks, by autograd and by finite differences."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from wireleak.common.measures.readers.gradient_sensitivity import (
    Norm,
    Scale,
    input_sensitivity,
    layer_weights,
    output_sensitivity,
)

CLASSES = 3


@pytest.fixture
def tiny() -> Any:
    """A smooth convolutional network in double precision, three examples, and their labels."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.MaxPool2d(2)), nn.Flatten(), nn.Linear(8, CLASSES)
    ).double()
    return network, torch.randn(3, 1, 6, 6, dtype=torch.float64), torch.tensor([0, 2, 1])


def test_the_layers_are_convolutions_and_dense_layers_in_order(tiny: Any) -> None:
    network, _, _ = tiny
    assert list(layer_weights(network)) == ["0.0.weight", "2.weight"]
    assert all(name in network.state_dict() for name in layer_weights(network))
    assert list(layer_weights(nn.Linear(2, 2))) == ["weight"]


def by_output(network: Any, x: Any, y: Any, name: Any, step: Any = 1e-6) -> Any:
    """The layer's gradient, and its derivative by the logits as central differences, the network held still."""
    weight = dict(network.named_parameters())[name]
    logits = network(x[None])[0]

    def gradient(at: Any) -> torch.Tensor:
        at = at.detach().requires_grad_()
        (by_logits,) = torch.autograd.grad(cross_entropy(at[None], y[None]), at)
        return torch.autograd.grad(logits, weight, by_logits, retain_graph=True)[0].flatten()

    steps = step * torch.eye(CLASSES, dtype=torch.float64)
    columns = [(gradient(logits + one) - gradient(logits - one)) / (2 * step) for one in steps]
    return gradient(logits), torch.stack(columns, 1)


@pytest.mark.parametrize("norm", ["F", "1", "inf"])
@pytest.mark.parametrize(("scale", "power"), [("root", 0.5), ("weights", 1), ("none", 0)])
def test_the_output_form_is_what_finite_differences_give(tiny: Any, norm: Norm, scale: Scale, power: float) -> None:
    network, inputs, labels = tiny
    found = output_sensitivity(network, inputs, labels, norm=norm, scale=scale)
    for name, weight in layer_weights(network).items():
        total = 0.0
        for x, y in zip(inputs, labels, strict=True):
            gradient, jacobian = by_output(network, x, y, name)
            size = {"F": jacobian.norm(), "1": jacobian.abs().sum(0).max(), "inf": jacobian.abs().sum(1).max()}[norm]
            total += float(size / (gradient.max() - gradient.min()))
        assert found[name] == pytest.approx(total / (3 * weight.numel() ** power), rel=1e-6)


def explicit(network: Any, x: Any, y: Any) -> Any:
    """By layer: the gradient, and its Jacobian (weights, input values), from autograd alone."""
    parameters = dict(network.named_parameters())

    def gradients(at: Any) -> Any:
        loss = cross_entropy(network(at[None]), y[None])
        return tuple(torch.autograd.grad(loss, [parameters[n] for n in layer_weights(network)], create_graph=True))

    jacobians = torch.autograd.functional.jacobian(gradients, x)
    return [(g.flatten(), j.reshape(g.numel(), x.numel())) for g, j in zip(gradients(x), jacobians, strict=True)]


def test_the_input_form_is_the_explicit_jacobians_norm(tiny: Any) -> None:
    network, inputs, labels = tiny
    found = input_sensitivity(network, inputs, labels, draws=3000)
    layers = zip(*(explicit(network, x, y) for x, y in zip(inputs, labels, strict=True)), strict=True)
    for (name, weight), pairs in zip(layer_weights(network).items(), layers, strict=True):
        norms = torch.stack([jacobian.norm() for _, jacobian in pairs])
        lengths = torch.stack([gradient.norm() for gradient, _ in pairs])
        assert found[name].jacobian == pytest.approx(float(norms.mean()), rel=0.03)
        assert found[name].gradient == pytest.approx(float(lengths.detach().mean()), rel=1e-9)
        relative = (norms / (weight.numel() ** 0.5 * lengths)).detach().mean()
        assert found[name].relative == pytest.approx(float(relative), rel=0.03)


def test_it_is_repeatable_and_leaves_the_network_alone(tiny: Any) -> None:
    network, inputs, labels = tiny
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert input_sensitivity(network, inputs, labels, draws=2) == input_sensitivity(network, inputs, labels, draws=2)
    assert input_sensitivity(network, inputs, labels, draws=2, seed=1) != input_sensitivity(
        network, inputs, labels, draws=2
    )
    output_sensitivity(network, inputs, labels)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_layer_that_gets_no_gradient_counts_as_nothing() -> None:
    first = nn.Linear(4, 3)
    network = nn.Sequential(first, nn.ReLU(), nn.Linear(3, CLASSES))
    with torch.no_grad():
        first.bias.fill_(-100.0)
    inputs, labels = torch.rand(2, 4), torch.tensor([0, 1])
    assert output_sensitivity(network, inputs, labels)["0.weight"] == 0
    found = input_sensitivity(network, inputs, labels, draws=2)["0.weight"]
    assert (found.jacobian, found.gradient, found.relative) == (0, 0, 0)
