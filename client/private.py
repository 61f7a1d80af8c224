"""Private training: DP-SGD over a client's own examples, by Opacus."""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from client.examples import Floats, Labels
from wireleak.common.measures.bounds.accounting import epsilon
from wireleak.common.models.private import generators, refuse_unfit
from wireleak.common.models.training import Training, optimiser
from wireleak.common.plan import PrivacyConfig


def train_private(
    network: nn.Module, inputs: Floats, labels: Labels, how: Training, privacy: PrivacyConfig, *, rounds: int = 1
) -> tuple[float, float]:
    """Train the whole network so that no single example shows in its weights.

    Each step draws every example with the same chance (Poisson sampling), clips each one's gradient, adds Gaussian
    noise to their sum, and hands the mean to SGD or Adam. Covered are the training examples, one at a time; the inputs
    that the network is given afterwards are not. Sampling and noise follow from the seed and the shard, so that a study
    can be repeated and no two clients add the same noise: whoever knows both can take the noise away, and a device in
    earnest draws from a secure generator.

    Parameters
    ----------
    network : nn.Module
        Changed in place.
    inputs, labels : arrays of shapes (n, *input_shape) and (n,)
        The private shard.
    how : Training
        `batch` is the expected size of a step's sample; an epoch has ceil(n / batch) steps.
    privacy : PrivacyConfig
    rounds : int
        Rounds like this one that the client has sent updates of, this one included: they compose.

    Returns
    -------
    loss : float
        Mean over all examples drawn, in nats, from the weights that their step began with.
    epsilon : float
        Spent in all rounds at `privacy.delta`; the unit is one training example.

    Raises
    ------
    ConfigError
        A layer makes per-example clipping void (BatchNorm), or Opacus cannot clip it.

    References
    ----------
    Abadi et al., "Deep Learning with Differential Privacy", CCS 2016; Yousefpour et al., "Opacus", 2021.
    """
    network.train()
    refuse_unfit(network)
    # Opacus takes two seconds to import, which only private training should pay for.
    from opacus import PrivacyEngine
    from torch.utils.data import DataLoader, TensorDataset

    sampling, noise = generators(how, inputs, labels)
    data = TensorDataset(torch.from_numpy(inputs), torch.from_numpy(labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the seeded generator, which is meant, and of torch's own hooks
        module, stepping, loader = PrivacyEngine(accountant="rdp").make_private(
            module=network,
            optimizer=optimiser(privacy.optimiser, network, how.plan.learning_rate),
            data_loader=DataLoader(data, batch_size=how.plan.batch, generator=sampling),
            noise_multiplier=privacy.noise_multiplier,
            max_grad_norm=privacy.max_grad_norm,
            noise_generator=noise,
        )
        total, seen, steps = 0.0, 0, 0
        for _ in range(how.plan.epochs):
            for drawn, wanted in loader:
                stepping.zero_grad()
                loss = cross_entropy(module(drawn), wanted)
                torch.autograd.backward(loss)
                stepping.step()
                steps += 1
                if len(drawn):
                    total, seen = total + loss.item() * len(drawn), seen + len(drawn)
        module.to_standard_module()
    spent = epsilon(privacy.noise_multiplier, loader.sample_rate, rounds * steps, privacy.delta)
    return total / max(seen, 1), spent
