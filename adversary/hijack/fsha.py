"""FSHA: send gradients that lead a client's encoder into a feature space that the server can invert.

Pasquini, Ateniese, Bernaschi, "Unleashing the Tiger: Inference Attacks on Split Learning", CCS 2021. The names are the
paper's: f is the client's encoder, f~ the server's ("pilot"), D a critic that tells f~'s features from f's.

For each batch of a client: z = f(private), z~ = f~(public), and all losses are taken before any step

    L_ae = MSE(public, decoder(z~))                              -> f~ and decoder
    L_D  = mean D(z~) - mean D(z) + w (|grad D(z^)| - 1)^2       -> D (Wasserstein, Gulrajani et al. 2017)
    L_f  = mean D(z)                                             -> the client gets dL_f/dz and trains f with it

f's features move to where f~'s are, and decoder(f(private)) comes close to private. Labels are ignored.

Deviations from the authors:

- Before the first answer f~ and the decoder learn from public inputs for `warm_up` steps. Afterwards f~ hardly moves,
  because a client reaches a fixed target sooner.
- The norm in the penalty is over all axes of z^; their code leaves the channels out.
- f~ has the client's architecture (the server hands the network out) and weights of its own.
- The critic is a perceptron, which fits any activation, and its input is standardised.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from adversary.attacks.harness.device import best_device
from adversary.attacks.harness.hijacked import FACTS, WEIGHTS
from adversary.attacks.harness.progressive import build_decoder
from adversary.hijack.config import HijackOptions
from wireleak.common.config import ConfigError
from wireleak.common.files import write_json
from wireleak.common.models import ModelConfig, load_weights, save_weights
from wireleak.common.wire.service import Floats, OverflowedError

_WARM_UP_BATCH, _MEASURED = 64, 1024


class Standardise(nn.Module):
    """A layer that scales each channel of activations (n, channels, ...) by a mean and deviation measured once."""

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))

    def measure(self, activation: Tensor) -> None:
        """Measure mean and deviation on `activation`; a floor keeps channels that hardly vary from being amplified."""
        channels = activation.detach().transpose(0, 1).flatten(1)
        deviation = channels.std(1)
        self.mean.copy_(channels.mean(1))
        self.scale.copy_(deviation.clamp(min=max(1e-3, 0.1 * float(deviation.mean()))))

    def forward(self, activation: Tensor) -> Tensor:
        """Return the standardised activation, of the same shape."""
        sides = [1] * (activation.dim() - 2)
        return (activation - self.mean.view(-1, *sides)) / self.scale.view(-1, *sides)


def make_critic(activation: tuple[int, ...], width: float) -> nn.Sequential:
    """Build D: (n, *activation) -> (n, 1), with `Standardise` first."""
    hidden = max(8, round(128 * width))
    return nn.Sequential(
        Standardise(activation[0]),
        nn.Flatten(),
        nn.Linear(math.prod(activation), hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, 1),
    )


class Hijacker:
    """The malicious server's replacement for the head, safe to use from many threads.

    Parameters
    ----------
    model : ModelConfig
        The network that clients believe is trained.
    public : numpy.ndarray
        Float32 (n, *input_shape): the server's own inputs.
    options : HijackOptions
        Settings of the attack.
    seed : int
        Seed of the server's networks and of the order of its inputs.

    Attributes
    ----------
    activation_shape : tuple of int
        Shape of one example's activation.
    """

    def __init__(self, model: ModelConfig, public: Floats, options: HijackOptions, seed: int) -> None:
        self.model = model
        self.activation_shape = model.network().activation_shape(model.cut)
        self._public = torch.from_numpy(public)
        self._options, self._seed = options, seed
        self._device = best_device()
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Restart the attack, with the head that an honest server would start with."""
        with self._lock:
            self._build()

    def step(self, activation: Floats, label: npt.NDArray[np.int64]) -> tuple[Floats, float]:
        """Take one step of the attack on one batch.

        Parameters
        ----------
        activation : array of shape (batch, *activation_shape)
            The client's activations.
        label : array of shape (batch,)
            Class indices.

        Returns
        -------
        gradient : array of the activation's shape
            Gradient of mean D(z) by the activation.
        loss : float
            The head's cross-entropy, in nats, as an honest server would report it.

        Raises
        ------
        OverflowedError
            The activations are too large for finite results; no step was taken.
        """
        z = torch.from_numpy(activation).to(self._device)
        with self._lock:
            self._warm_up()
            led = z.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self.nets["critic"](led).mean(), led)
            x = self._batch(len(z))
            copies = self.nets["pilot"](x)
            rebuilt = mse_loss(self.nets["decoder"](copies), x)
            critical = self._critic_loss(z, copies.detach())
            loss = cross_entropy(self.nets["head"](z), torch.from_numpy(label).to(self._device))
            if not all(torch.isfinite(value).all() for value in (gradient, critical, loss)):
                raise OverflowedError
            _descend(self._on_pilot, rebuilt)
            _descend(self._on_critic, critical)
            for _ in range(self._options.critic_steps - 1):
                _descend(self._on_critic, self._critic_loss(z, self._copies(len(z))))
            if self._options.keep_accuracy:
                _descend(self._on_head, loss)
            self.iterations += 1
            self.public_mse += (rebuilt.item() - self.public_mse) / min(self.iterations, 100)
        return gradient.cpu().numpy(), loss.item()

    def predict(self, activation: Floats) -> Floats:
        """Return the head's class probabilities (batch, classes).

        Raises
        ------
        OverflowedError
            The activations are too large for finite results.
        """
        with self._lock, torch.no_grad():
            probabilities: Tensor = self.nets["head"](torch.from_numpy(activation).to(self._device)).softmax(dim=1)
        if not torch.isfinite(probabilities).all():
            raise OverflowedError
        return np.asarray(probabilities.cpu())

    def save(self, server_round: int, head: Path, out: Path) -> None:
        """Write the head where the ServerApp expects it, and the attack's own state into `out`."""
        facts = {
            "round": server_round,
            "iterations": self.iterations,
            "public_mse": self.public_mse,
            "activation_shape": self.activation_shape,
            "input_shape": self.model.input_shape,
            "width": self._options.width,
        }
        with self._lock:
            save_weights(self.nets["head"], head)
            save_weights(self.nets, out / WEIGHTS.format(server_round))
            write_json(out / FACTS, facts)

    def load(self, server_round: int, head: Path, out: Path) -> None:
        """Go back to a round. If the attack saved nothing in that round, it restarts with that round's head.

        Raises
        ------
        ConfigError
            The files do not hold this network; nothing is changed.
        """
        nets, own = self._networks(), out / WEIGHTS.format(server_round)
        try:
            if own.is_file():
                load_weights(nets, own)
            load_weights(nets["head"], head)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise ConfigError(
                f"checkpoints: {head} or {own} is missing, broken or not of cut {self.model.cut} of {self.model.name}; "
                "name another folder or remove this one"
            ) from error
        with self._lock:
            self._warm = own.is_file()
            self._adopt(nets)

    def _build(self) -> None:
        self.iterations, self.public_mse, self._warm = 0, 0.0, False
        self._adopt(self._networks())

    def _networks(self) -> nn.ModuleDict:
        _, head = self.model.network().split(self.model.cut)
        # A seed other than the clients': the attack must lead f to f~, not start with f equal to f~.
        pilot, _ = self.model.model_copy(update={"seed": self.model.seed + 1}).network().split(self.model.cut)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            shape, width = self.activation_shape, self._options.width
            decoder = build_decoder(shape, self.model.input_shape, width, self._public.mean(0))
            critic = make_critic(shape, width)
        return nn.ModuleDict({"head": head, "pilot": pilot, "decoder": decoder, "critic": critic}).to(self._device)

    def _adopt(self, nets: nn.ModuleDict) -> None:
        options = self._options
        self.nets, self._draw = nets, np.random.default_rng([self._seed, self.iterations])
        self._on_pilot = torch.optim.Adam(
            [
                {"params": nets["decoder"].parameters(), "lr": options.learning_rate},
                {"params": nets["pilot"].parameters(), "lr": options.pilot_learning_rate},
            ]
        )
        self._on_critic = torch.optim.Adam(nets["critic"].parameters(), options.critic_learning_rate)
        self._on_head = torch.optim.Adam(nets["head"].parameters(), options.head_learning_rate)

    def _warm_up(self) -> None:
        if self._warm:
            return
        inverting = [*self.nets["pilot"].parameters(), *self.nets["decoder"].parameters()]
        optimiser = torch.optim.Adam(inverting, self._options.learning_rate)
        for _ in range(self._options.warm_up):
            x = self._batch(_WARM_UP_BATCH)
            _descend(optimiser, mse_loss(self.nets["decoder"](self.nets["pilot"](x)), x))
        critic = self.nets["critic"]
        assert isinstance(critic, nn.Sequential) and isinstance(critic[0], Standardise)
        critic[0].measure(self._copies(_MEASURED))
        self._warm = True

    def _batch(self, size: int) -> Tensor:
        return self._public[self._draw.integers(0, len(self._public), size)].to(self._device)

    def _copies(self, size: int) -> Tensor:
        with torch.no_grad():
            return self.nets["pilot"](self._batch(size))  # type: ignore[no-any-return]

    def _critic_loss(self, z: Tensor, copies: Tensor) -> Tensor:
        critic = self.nets["critic"]
        share = torch.from_numpy(self._draw.random((len(z), *[1] * (z.dim() - 1)), dtype=np.float32)).to(z.device)
        between = (share * z + (1 - share) * copies).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        loss: Tensor = critic(copies).mean() - critic(z).mean() + self._options.gradient_penalty * penalty
        return loss


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimiser.step()
