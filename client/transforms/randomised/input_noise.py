"""Noise on pictures or sensor readings before the encoder computes anything from them."""

from __future__ import annotations

from client.transforms.randomised.laplace import Laplace
from client.transforms.randomised.noise import Noise
from client.transforms.registry import Changes, register

_UNBOUNDED = "no epsilon: unclipped inputs have no largest difference; set a clip"


@register
class InputNoise(Noise):
    """Clip each input to a Euclidean norm and add Gaussian noise, before the encoder computes anything.

    Any two clipped inputs are at most 2 clip apart, so the encoder's input is mu-GDP with mu = 2 clip / sigma, and so
    is everything that is computed from it: activations at every cut. This is local differential privacy for the whole
    input. A picture of d pixels between 0 and 1 has a norm of at most sqrt(d), which is the clip that changes none. The
    encoder trains on noised inputs too. The audit of two known inputs covers this noise: its device sends without an
    encoder, so half of the noise is refuted.

    References
    ----------
    Balle, Wang, ICML 2018 (exact curve); Dong, Roth, Su, JRSS B 2022 (post-processing; composition mu sqrt(q)).
    """

    name = "input-noise"
    changes = Changes(
        "clips each input and adds Gaussian noise before the encoder", wire="activations of noised inputs"
    )
    acts_on = "numbers"
    stream = "input-noise"

    def refusal(self) -> str | None:
        """Return why unclipped noise guarantees nothing."""
        return _UNBOUNDED if self.settings.clip is None else None


@register
class InputLaplace(Laplace):
    """Clip each input in L1 norm and add Laplace noise of scale b = 2 clip / epsilon, before the encoder.

    Any two clipped inputs are at most 2 clip apart in L1 norm. The encoder's input, and all that is computed from it,
    is epsilon-locally differentially private for the whole input, with delta = 0. A picture of d pixels between 0 and 1
    has an L1 norm of at most d. The encoder trains on noised inputs too. The audit covers it as it does `input-noise`.

    References
    ----------
    Dwork, McSherry, Nissim, Smith, TCC 2006; Kairouz, Oh, Viswanath, ICML 2015 (composition).
    """

    name = "input-laplace"
    changes = Changes(
        "clips each input in L1 norm and adds Laplace noise before the encoder", wire="activations of noised inputs"
    )
    acts_on = "numbers"

    def refusal(self) -> str | None:
        """Return why unclipped noise guarantees nothing."""
        return _UNBOUNDED if self.settings.clip is None else None
