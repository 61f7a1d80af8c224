"""White box: search the input that the victims' own encoder maps to the captured activation."""

from __future__ import annotations

from typing import Any

from adversary.attacks.activations.reconstruction.search import SearchOptions, invert
from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from wireleak.common.targets.input import Input


@register
class Rmle(ActivationAttack):
    """Find the input that explains a captured activation best, by gradient descent through the known encoder.

    The search minimises `mean (f1(x) - z)^2 + tv TV(x) + l2 mean x^2` over inputs scaled to [-1, 1], from grey. This is
    the objective of the authors' code: the mean, not the sum, of squares, and TV(x) is the mean of squared differences
    in each direction (the paper prints a sum with exponent 1/2). The optimiser is Adam with AMSGrad, as theirs. The
    default step is larger and decays, which converges where theirs stops too early. The result is clipped to the range.

    References
    ----------
    He, Zhang, Lee, "Model Inversion Attacks Against Collaborative Inference", ACSAC 2019, section 4 (rMLE).
    """

    name = "rmle"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.GATEWAY, Vantage.SERVER),
        sees=("activation",),
        knows=(Knows.ARCHITECTURE, Knows.WEIGHTS),
    )
    target = Input
    options = SearchOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Load the encoder; nothing is trained."""
        from wireleak.common.models import load_weights

        network, path = knowledge.network(), knowledge.encoder
        if knowledge.model is None or path is None:
            raise ValueError("granted.encoder: rmle needs the encoder's weights; grant them, or use shadow")
        self._encoder, _ = network.split(knowledge.model.cut)
        load_weights(self._encoder, path)
        self._shape, self._range = network.input_shape, knowledge.input_range

    def guess(self, activations: Array) -> Array:
        """Rebuild inputs (n, *input_shape) from activations (n, *activation_shape)."""
        return self.search(self._encoder, activations, self._shape, self._range)

    def search(self, encoder: Any, seen: Array, shape: tuple[int, ...], span: tuple[float, float]) -> Array:
        """Search inputs as `invert` does, until the deadline, and report how it ended."""
        stopped: list[str] = []
        known = encoder, seen, shape, span, self.settings, self.seed
        found, residual = invert(*known, self.deadline, stopped.append)
        self.report |= {"residual": residual, "stopped": stopped[0] if stopped else None}
        return found
