"""Sensitivity of each layer's gradient: how strongly it answers to the network's output, and to its input.

Two forms. The first is that of Mo et al., "Layer-wise Characterization of Latent Information Leakage in Federated
Learning" (arXiv 2010.08762): the Jacobian by the *output*, which stands in for a latent property. The second is ours,
as the text of their later paper (arXiv 2105.13929) was not available: the Jacobian by the *input* itself.
Both go over single examples, and over the weights of convolutions and dense layers; biases are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vjp, vmap
from torch.nn.functional import cross_entropy

Norm = Literal["F", "1", "inf"]
Scale = Literal["root", "weights", "none"]
_NORMS: dict[Norm, str | float] = {"F": "fro", "1": 1, "inf": float("inf")}


def layer_weights(network: nn.Module) -> dict[str, Tensor]:
    """The weights (detached) of convolutions and dense layers by their names in the state, in the network's order."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    held = [(name, module) for name, module in network.named_modules() if isinstance(module, kinds)]
    return {f"{name}.weight" if name else "weight": module.weight.detach() for name, module in held}


def output_sensitivity(
    network: nn.Module, inputs: Tensor, labels: Tensor, *, norm: Norm = "F", scale: Scale = "root"
) -> dict[str, float]:
    """By layer, the mean over examples of the norm of d g / d output over the range of g, divided by psi.

    The gradient g of cross-entropy is the output's Jacobian, transposed, times (softmax - one-hot); its derivative by
    the output, that Jacobian being held, is the Jacobian, transposed, times the Hessian of cross-entropy: exact, with
    one backward pass a class. The output is the logits.

    Parameters
    ----------
    network : nn.Module
        In the mode (training or evaluation) it is in; one example must not influence another.
    inputs, labels : (n, *input_shape), int64 (n,)
    norm : "F", "1" or "inf"
        Of the matrix (weights, classes): Frobenius, largest column sum, largest row sum.
    scale : "root", "weights" or "none"
        psi: the root of the layer's number of weights, that number, or 1.

    Returns
    -------
    dict of str to float
        An example whose gradient is the same for every weight counts as 0.
    """
    weights, rest = layer_weights(network), _rest(network)
    totals = dict.fromkeys(weights, 0.0)
    for x, y in zip(inputs, labels, strict=True):

        def answer(by: dict[str, Tensor], x: Tensor = x) -> Tensor:
            answers: Tensor = functional_call(network, {**rest, **by}, (x[None],))
            return answers[0]

        pair: Any = vjp(answer, weights)
        logits, pull = pair
        chances = logits.softmax(0)
        (columns,) = vmap(pull)(chances.diag() - chances.outer(chances))
        one_hot = torch.zeros_like(chances)
        one_hot[y] = 1
        (gradients,) = pull(chances - one_hot)
        for name, gradient in gradients.items():
            span = float(gradient.max() - gradient.min())
            if span > 0:
                jacobian = columns[name].flatten(1).T
                totals[name] += float(torch.linalg.matrix_norm(jacobian, _NORMS[norm])) / span
    sizes = {name: {"root": w.numel() ** 0.5, "weights": w.numel(), "none": 1}[scale] for name, w in weights.items()}
    return {name: total / (len(inputs) * sizes[name]) for name, total in totals.items()}


@dataclass(frozen=True)
class InputSensitivity:
    """How strongly one layer's gradient answers to the input; means over examples.

    Parameters
    ----------
    jacobian : float
        ||d g / d x||_F as it is.
    gradient : float
        ||g||.
    relative : float
        ||d g / d x||_F / (sqrt(weights) ||g||): free of the layer's size and of its gradient's.
    """

    jacobian: float
    gradient: float
    relative: float


def input_sensitivity(
    network: nn.Module, inputs: Tensor, labels: Tensor, *, draws: int = 200, seed: int = 0
) -> dict[str, InputSensitivity]:
    """By layer, the Frobenius norm of the gradient's Jacobian by the input, by Hutchinson's estimator.

    ||J||_F^2 is the mean of ||d <g, v> / d x||^2 over v from N(0, I), so each draw costs one second derivative for all
    examples at once. ReLU's and pooling's second derivatives count as 0, which they are almost everywhere.

    Parameters
    ----------
    network : nn.Module
        As for `output_sensitivity`.
    inputs, labels : (n, *input_shape), int64 (n,)
    draws : int
        For each example; 200 give a few percent of one example's error.
    seed : int
        Of v.
    """
    weights, rest = layer_weights(network), _rest(network)

    def loss(by: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(network, {**rest, **by}, (x[None],)), y[None])

    examples = inputs.detach().clone().requires_grad_()
    gradients = vmap(grad(loss), (None, 0, 0))(weights, examples, labels)
    made = torch.Generator(examples.device).manual_seed(seed)
    found = {}
    for name, gradient in gradients.items():
        squares = torch.zeros(len(inputs), dtype=examples.dtype, device=examples.device)
        for _ in range(draws):
            v = torch.randn(gradient.shape, generator=made, dtype=gradient.dtype, device=gradient.device)
            (by_input,) = torch.autograd.grad((gradient * v).sum(), examples, retain_graph=True)
            squares += by_input.flatten(1).square().sum(1) / draws
        lengths = gradient.detach().flatten(1).norm(dim=1)
        sizes = weights[name].numel() ** 0.5 * lengths
        relative = torch.where(sizes > 0, squares.sqrt() / sizes.clamp_min(1e-30), 0.0)
        found[name] = InputSensitivity(*(float(each.mean()) for each in (squares.sqrt(), lengths, relative)))
    return found


def _rest(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, detached: what the layers' weights are put over."""
    return {name: value.detach() for name, value in (*network.named_parameters(), *network.named_buffers())}
