"""Private training: DP-SGD on a client's own examples, by Opacus."""

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
    """Train the whole network so that its weights hardly depend on any single example (DP-SGD).

    Each step draws every example with the same probability (Poisson sampling), clips each example's gradient, adds
    Gaussian noise to their sum, and passes the mean to SGD or Adam. The guarantee covers each training example, and not
    the inputs that the network gets afterwards. Sampling and noise follow from the seed and the shard, so a study can
    be repeated and no two clients add the same noise. An attacker who knows both can subtract the noise; a real device
    must draw from a secure generator.

    Parameters
    ----------
    network : nn.Module
        The network, changed in place.
    inputs, labels : arrays of shapes (n, *input_shape) and (n,)
        The private shard.
    how : Training
        `batch` is the expected size of a step's sample; an epoch has ceil(n / batch) steps.
    privacy : PrivacyConfig
    rounds : int
        Number of such rounds with an update from this client, this one included: they compose.

    Returns
    -------
    loss : float
        Mean over all drawn examples, in nats, at the weights before their step.
    epsilon : float
        Epsilon of all rounds at `privacy.delta`; the unit is one training example.

    Raises
    ------
    ConfigError
        A layer makes per-example clipping invalid (BatchNorm), or Opacus cannot clip it.

    References
    ----------
    Abadi et al., "Deep Learning with Differential Privacy", CCS 2016; Yousefpour et al., "Opacus", 2021.
    """
    network.train()
    refuse_unfit(network)
    # Importing Opacus takes two seconds, so only private training imports it.
    from opacus import PrivacyEngine
    from torch.utils.data import DataLoader, TensorDataset

    sampling, noise = generators(how, inputs, labels)
    data = TensorDataset(torch.from_numpy(inputs), torch.from_numpy(labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the seeded generator, which is intended, and about torch's own hooks
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
