"""DP-SGD of one module: each example's gradient is clipped, and noise is added to their sum.

Clients train by it, and so do attackers that imitate them.
"""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from wireleak.common.config import ConfigError
from wireleak.common.models.mixing import FIX, mixing_layer
from wireleak.common.models.training import Training, optimiser
from wireleak.common.plan import PrivacyConfig


def unfit(network: nn.Module) -> str | None:
    """Return why DP-SGD cannot train a network, with the layer and its replacement, or None if it can."""
    if (reason := mixing_layer(network)) is not None:
        return reason
    from opacus.validators import ModuleValidator

    for name, layer in network.named_modules():
        if not any(weight.requires_grad for weight in layer.parameters(recurse=False)):
            continue
        kind = type(layer)
        if kind in ModuleValidator.VALIDATORS and ModuleValidator.VALIDATORS[kind](layer):
            fix = ModuleValidator.FIXERS.get(kind)
            place = f"{type(fix(layer)).__name__} in its place" if fix else "another layer in its place"
            return (
                f"layer {name} is {kind.__name__}, within which Opacus cannot tell the examples' gradients apart; "
                f"choose a network with {place}" + (f" ({FIX})" if fix else "")
            )
        if list(layer.buffers()):
            return (
                f"layer {name} ({kind.__name__}) keeps numbers beside its weights, through which an example may show; "
                "choose a network that keeps them in a layer without weights"
            )
    return None


def refuse_unfit(network: nn.Module) -> None:
    """Refuse a network that is `unfit`.

    Raises
    ------
    ConfigError
        Names the layer.
    """
    if (reason := unfit(network)) is not None:
        raise ConfigError(f"privacy: {reason}")


class PrivateSteps:
    """Takes DP-SGD steps of a module, which bound every example's influence on its weights.

    Parameters
    ----------
    network : nn.Module
        Changed in place; must be one that is not `unfit`.
    how : PrivacyConfig
    learning_rate : float
    batch : float
        Expected number of examples in a step: the noised sum is divided by it, as the number drawn is itself private.
    generator : torch.Generator
        Of the noise.

    References
    ----------
    Abadi et al., "Deep Learning with Differential Privacy", CCS 2016; Yousefpour et al., "Opacus", 2021.
    """

    def __init__(
        self, network: nn.Module, how: PrivacyConfig, learning_rate: float, batch: float, generator: torch.Generator
    ) -> None:
        # Opacus takes two seconds to import, which only private training should pay for.
        from opacus import GradSampleModule
        from opacus.optimizers import DPOptimizer

        # Whoever calls `backward` gives each example's own gradient, which is what "sum" means.
        self._module = GradSampleModule(network, loss_reduction="sum")
        self._optimiser = DPOptimizer(
            optimiser(how.optimiser, network, learning_rate),
            noise_multiplier=how.noise_multiplier,
            max_grad_norm=how.max_grad_norm,
            expected_batch_size=batch,
            generator=generator,
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Output for (n, …), n at least 1, of which one `backward` must follow before `step`."""
        self._optimiser.zero_grad()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of hooks on inputs that need no gradient
            outputs: Tensor = self._module(inputs)
        return outputs

    def backward(self, outputs: Tensor, gradient: Tensor | None = None) -> None:
        """Find each example's gradient: of a loss that is summed over examples, or from each one's gradient."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.autograd.backward(outputs, gradient)

    def gradients(self) -> list[Tensor]:
        """Each example's gradient (n, *shape) of each weight, as it is before clipping."""
        return [weight.grad_sample for weight in self._optimiser.params]

    def step(self) -> None:
        """Clip, add noise, and step."""
        self._optimiser.step()

    def step_without_examples(self) -> None:
        """Take a step of only noise where no example was drawn, because an empty draw is private too."""
        self._optimiser.zero_grad()
        for weight in self._optimiser.params:
            weight.grad_sample = weight.new_zeros((0, *weight.shape))
        self._optimiser.step()

    def close(self) -> None:
        """Leave the network as an ordinary one."""
        self._module.to_standard_module()


def generators(how: Training, inputs: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> list[torch.Generator]:
    """Two generators, for sampling and for noise, of each seed, round and shard: no two clients add the same noise."""
    shard = hashlib.sha256(inputs.tobytes() + labels.tobytes()).digest()
    seeds = np.random.SeedSequence([*how.seed, int.from_bytes(shard)]).spawn(2)
    return [torch.Generator().manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1)) for seed in seeds]


def train_whole_privately(
    network: nn.Module,
    inputs: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    how: Training,
    privacy: PrivacyConfig,
) -> tuple[float, int, float]:
    """Train the whole network so that its weights hardly depend on any single example (DP-SGD).

    Each step draws every example with the same probability (Poisson sampling), clips each example's gradient, adds
    Gaussian noise to their sum, and passes the mean to SGD or Adam.

    Parameters
    ----------
    network : nn.Module
        The network, changed in place.
    inputs, labels : arrays of shapes (n, *input_shape) and (n,)
        The private shard.
    how : Training
        `batch` is the expected size of a step's sample; an epoch has ceil(n / batch) steps.
    privacy : PrivacyConfig

    Returns
    -------
    loss : float
        Mean over all drawn examples, in nats, at the weights before their step.
    steps : int
    rate : float
        Probability with which a step draws an example.

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
    return total / max(seen, 1), steps, float(loader.sample_rate)
