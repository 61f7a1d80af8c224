"""Localise: find the layer of an update that reveals most about a property, and about the input."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.attack import PERMUTATIONS
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.harness.training import Update
from adversary.attacks.harness.update_attack import UpdateAttack
from adversary.attacks.updates.layer_gradients import layer_gradients
from adversary.attacks.updates.layer_profile import COMPONENTS, auc, layer_profile, layer_sensitivity, reading
from adversary.attacks.updates.update_features import features
from wireleak.common.targets.attribute import PrivateAttribute


class LocaliseOptions(BaseModel):
    """Settings of `Localise`."""

    model_config = ConfigDict(extra="forbid")
    snapshots: int = Field(
        20, ge=1, description="Number of rounds, evenly spread, on whose models the attacker makes updates."
    )
    pools: int = Field(
        6, ge=6, description="Parts of the attacker's examples; no part is both trained on and tested on."
    )
    repeats: int = Field(1, ge=1, description="Updates per round, part and value of the property.")
    permutations: int = Field(20, ge=1, description="Draws of each null distribution.")
    probes: int = Field(16, ge=1, description="Examples at which the gradients' sensitivity is measured.")
    draws: int = Field(16, ge=1, description="Random directions per example (Hutchinson).")


@register
class Localise(UpdateAttack):
    """Measure how much each layer of an update leaks, and guess the property from the layer that leaks most.

    On the global models of some rounds the attacker trains as a client does, with and without the property. It measures
    each layer of those updates separately: V-information about the property on examples that the reader never saw,
    subspace distance, the gradient's sensitivity to output and input, and how much of the mean input a linear reader
    rebuilds. It then reads the layer with most V-information on held-out examples in the captured updates.

    References
    ----------
    Mo, Borovykh, Malekzadeh, Haddadi, Demetriou, "Layer-wise Characterization of Latent Information Leakage in
    Federated Learning", DPML at ICLR 2021 (arXiv 2010.08762). Subspace distance and original information are ours, as
    the text of arXiv 2105.13929 by the same authors was not available.
    """

    name = "localise"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.SERVER, Vantage.PARTICIPANT),
        sees=("global-model", "model-update"),
        knows=(Knows.SURROGATE, Knows.ARCHITECTURE),
    )
    target = PrivateAttribute
    options = LocaliseOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Make updates, read each of their layers, and choose one layer."""
        training = knowledge.training
        assert training is not None
        self._known, self._classes, options = knowledge, knowledge.classes, self.settings
        seen = sorted({one.round for one in training.updates})
        rounds = [seen[k] for k in np.unique(np.linspace(0, len(seen) - 1, options.snapshots).round().astype(int))]
        self._made = made = layer_gradients(knowledge, self.seed, rounds, pools=options.pools, repeats=options.repeats)
        readings = {layer: reading(made, layer, self.seed, permutations=0) for layer in made.layers}
        found = {layer: read for layer, read in readings.items() if read is not None}
        if not found:
            raise ValueError("model: every layer's updates are equal; train longer or on more examples")
        self._layer = max(found, key=lambda layer: found[layer].bits)
        width = made.features[self._layer].shape[1]
        self._rows = {}
        for one in training.updates:
            end = one.end.get(self._layer)
            fits = end is not None and end.shape == made.shapes[self._layer]
            row = features({self._layer: end - one.start[self._layer]}) if fits else np.zeros(width, np.float32)
            self._rows[one.sender, one.round] = row
        self.report = {
            "layer": self._layer.removesuffix(".weight"),
            "updates_made": len(made.values),
            "rounds": rounds,
            "bits": {layer: read.bits for layer, read in found.items()},
            "auc": {layer: auc(read) for layer, read in found.items()},
            "unread": [unit for unit, row in self._rows.items() if not row.any()],
        }

    def guess(self, updates: Sequence[Update]) -> Array:
        """Return probabilities (updates, classes), from the best reader of the best layer."""
        from wireleak.common.measures.readers.reading import Part

        made, own = self._made, self._made.features[self._layer]
        flat = np.concatenate([own, *(self._rows[one.sender, one.round][None] for one in updates)])
        fitting, choosing = (np.flatnonzero(mask) for mask in (made.pools > 0, made.pools == 0))
        part = Part(flat, fitting, choosing, np.arange(len(own), len(flat)), self._classes, self.seed)
        self.report["reader"], guess = part.choose(made.values, None)
        return np.asarray(guess, np.float32)

    @property
    def permutations(self) -> int:
        """Twenty: the attacker's updates cost more than the reader."""
        return PERMUTATIONS

    def permuted(self, knowledge: Knowledge, rng: np.random.Generator) -> Localise:
        """Return the same reader of the same layer, fitted to randomly permuted values."""
        other = copy(self)
        other._made, other.report = replace(self._made, values=rng.permutation(self._made.values)), {}
        return other

    def finish(self) -> None:
        """Measure every layer, into report["profile"]."""
        from wireleak.common.measures.readers.readout import components

        made, known = self._made, self._known.without_copies()
        basis = components(known.inputs, COMPONENTS)
        sensitivity = layer_sensitivity(
            self._known, made.layers, probes=self.settings.probes, draws=self.settings.draws, seed=self.seed
        )
        self.report["profile"] = [
            {
                "layer": layer.removesuffix(".weight"),
                "index": number,
                "kind": "conv" if len(shape) > 2 else "linear",
                "parameters": int(np.prod(shape)),
                **sensitivity[layer],
                **layer_profile(made, layer, basis, permutations=self.settings.permutations, seed=self.seed),
            }
            for number, (layer, shape) in enumerate(made.shapes.items(), 1)
        ]
