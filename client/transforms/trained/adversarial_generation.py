"""Adversarial generation: a decoder on the device learns to regenerate inputs, and the encoder learns to prevent it.

The decoder minimises L_g: for pictures the mean squared error per value, for texts -mean_t log P(x_t | x_<t, r) per
word. The encoder minimises CE(task(r), y) - weight * min(L_g, margin * L_blind), where L_blind is the loss of a guess
without r.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from pydantic import Field
from torch import Tensor

from client.transforms.registry import Batch, Changes, Scene, Transform, register
from client.transforms.trained.in_loop import OptimiserOptions, steer
from client.transforms.trained.regeneration import Regenerator, regenerator


class GenerationOptions(OptimiserOptions):
    """Settings of `AdversarialGeneration`."""

    weight: float = Field(
        1.0, ge=0, le=10_000, allow_inf_nan=False, description="Weight of the decoder's loss relative to the task's."
    )
    margin: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="Multiple of the blind guess's loss at which the encoder stops; with 1e6 it never does.",
    )
    width: int = Field(
        256,
        ge=16,
        le=4096,
        description="Hidden units of a perceptron decoder; an LSTM has a quarter, channels are a sixteenth.",
    )


@register
class AdversarialGeneration(Transform):
    """Train the encoder against a decoder of its activations, by the gradient of the decoder's last step on each batch.

    The authors' encoder maximises L_g without limit. A decoder that is confidently wrong has an unbounded loss, and
    raising it lowers the total more than the task does. This encoder stops, example by example, where the decoder is
    `margin` times as bad as a guess that never saw the message: the mean input for pictures, word frequencies for
    texts. A large margin gives the authors' form. For texts L_g is the mean over a text's words; theirs is the sum.
    Nothing is guaranteed: the encoder escapes this decoder. "decoder-loss" and "blind-loss" of the round do not show
    how well another decoder would do.

    References
    ----------
    Coavoux, Narayan, Cohen, "Privacy-preserving Neural Representations of Text", EMNLP 2018, section 3.2 and its code.
    """

    name = "adversarial-generation"
    options = GenerationOptions
    changes = Changes("trains its encoder against a decoder that rebuilds inputs, which it trains too")
    settings: GenerationOptions

    def __init__(self, settings: Any, seed: int) -> None:
        super().__init__(settings, seed)
        self._losses, self._seen = torch.zeros(2), 0

    def prepare(self, scene: Scene) -> Regenerator:
        """Return the decoder for the inputs' shape, and make its optimiser."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self._decoder = regenerator(scene.activation_shape, scene.input_shape, self.settings.width)
        self._optimiser = self.settings.optimise(self._decoder, scene.learning_rate)
        return self._decoder

    def loss(self, activation: Tensor, batch: Batch) -> Tensor:
        """Train the decoder on the batch; return minus its loss, up to the margin, with that gradient."""
        seen = activation.detach().requires_grad_()
        for left in reversed(range(self.settings.steps)):
            losses = self._decoder.losses(activation.detach() if left else seen, batch.inputs)
            self._optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(losses.mean())
            self._optimiser.step()
        with torch.no_grad():
            blind = self._decoder.blind(batch.inputs)
            limit = self.settings.margin * blind
            self._losses += torch.stack([losses.sum(), blind.sum()])
            self._seen += len(losses)
            # Row i of the gradient depends only on the loss of example i, so each example stops by itself.
            pushed = (losses < limit).float().view(-1, *[1] * (activation.dim() - 1))
            gradient = -self.settings.weight * pushed * cast(Tensor, seen.grad)
        return steer(activation, gradient, -self.settings.weight * torch.minimum(losses, limit).mean())

    def told(self) -> dict[str, float]:
        """Return the round's mean loss of the decoder, and of the guess without messages."""
        if not self._seen:
            return {}
        decoder, blind = (self._losses / self._seen).tolist()
        return {"decoder-loss": decoder, "blind-loss": blind}
