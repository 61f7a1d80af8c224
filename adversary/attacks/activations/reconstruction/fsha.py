"""FSHA's harvest: inputs from activations of an encoder that a malicious server trained for itself."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.input import Input


class FshaOptions(BaseModel):
    """`Fsha` has no settings; the malicious server's are in a variant's `server_options`."""

    model_config = ConfigDict(extra="forbid")


@register
class Fsha(ActivationAttack):
    """Rebuild a victim's input with the decoder that the malicious server trained while it misled the encoder.

    During training (`python -m adversary hijack`), the server led the clients' encoder into the decoder's feature
    space. This attack applies the decoder to the activations that the victims' devices send afterwards. It needs no
    query and no pair. The server trained the decoder on surrogate data; this attack uses only the data's range.

    References
    ----------
    Pasquini, Ateniese, Bernaschi, "Unleashing the Tiger: Inference Attacks on Split Learning", CCS 2021: MSE .0048 for
    pixels in [0, 1] (.0193 in theirs, [-1, 1]) on MNIST after 9,500 steps.
    """

    name = "fsha"
    threat = ThreatModel(
        vantage=(Vantage.MALICIOUS_SERVER,), sees=("activation",), knows=(Knows.SURROGATE, Knows.ARCHITECTURE)
    )
    target = Input
    options = FshaOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Load the decoder.

        Raises
        ------
        ValueError
            No folder of a malicious server is granted, or it holds no decoder.
        """
        from adversary.attacks.harness.hijacked import load_decoder

        folder = knowledge.files.get("hijack")
        if folder is None:
            raise ValueError(
                'granted.files.hijack: fsha needs the decoder of a hijacked training; set server = "hijack"'
            )
        self._decoder, facts = load_decoder(folder)
        self._range, self._sent = knowledge.input_range, tuple(facts["activation_shape"])
        self.report |= {"iterations": facts["iterations"], "measured": {"training-mse": facts["public_mse"]}}

    def guess(self, activations: Array) -> Array:
        """Rebuild inputs (n, *input_shape) from activations (n, *activation_shape)."""
        import torch

        if activations.shape[1:] != self._sent:
            raise ValueError(
                f"granted.files.hijack: the decoder takes {self._sent}, but {activations.shape[1:]} was captured"
            )
        with torch.no_grad():
            pieces = [
                self._decoder(torch.from_numpy(activations[at : at + 256])) for at in range(0, len(activations), 256)
            ]
        guesses: Array = torch.cat(pieces).clamp(*self._range).numpy()
        return np.ascontiguousarray(guesses)
