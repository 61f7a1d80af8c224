"""Layer inversion: rebuild inputs from the gradient of one layer, and compare the layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import Field

from adversary.attacks.gradients.gradient_matching import Victim, victim
from adversary.attacks.gradients.inverting_gradients import InvertingGradients, InvertingOptions
from adversary.attacks.gradients.layer_scores import layer_scores
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.pace import shown
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.harness.training import Update


class LayerInversionOptions(InvertingOptions):
    """Settings of `LayerInversion`."""

    examples: int = Field(
        4, ge=2, le=1000, description="Updates that the attacker makes from its own examples, to compare the layers."
    )


@dataclass(frozen=True)
class OneLayer(Victim):
    """An update of which the attacker compares only the layers in `gradients`."""

    def imitate(self, inputs: Any, labels: Any) -> list[Any]:
        """Imitate the whole training, and return the parts that are compared."""
        made = dict(zip(self.start, super().imitate(inputs, labels), strict=True))
        return [made[name] for name in self.gradients]


@register
class LayerInversion(InvertingGradients):
    """Search images as `InvertingGradients` does, by the gradient of one layer: its weights and biases.

    On the captured global models the attacker trains as a client does, on its own examples. A participant sees only the
    mean update of all other clients, so it trains as many. It rebuilds these examples from each layer of the updates
    and from all layers. The truth is its own, so it can score each layer, see `layer_scores`. Labels are known there.
    Then it rebuilds the inputs of the captured updates from the layer that did best. Their labels are read from the
    last layer.

    A search gives a lower bound of a layer's information. The profile says how well each search matched its gradient. A
    match without a likeness means that other inputs have nearly this gradient; a longer search may tell them apart.

    References
    ----------
    Geiping et al., "Inverting Gradients", NeurIPS 2020 (the search).
    Mo, Borovykh, Malekzadeh, Demetriou, Gündüz, Haddadi, "Quantifying and Localizing Usable Information Leakage from
    Neural Network Gradients", arXiv 2105.13929 (the question). The text was not available; the instrument is ours.
    """

    name = "layer-inversion"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.SERVER, Vantage.PARTICIPANT),
        sees=("model-update", "global-model"),
        knows=(Knows.ARCHITECTURE, Knows.SURROGATE),
    )
    options = LayerInversionOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Rebuild the attacker's own examples from each layer, and choose the best layer.

        Raises
        ------
        ValueError
            The network has no layer to compare, its inputs are no images, or fewer examples are granted than an update
            has.
        """
        from wireleak.common.measures.readers.gradient_sensitivity import layer_weights

        super().fit(knowledge)
        weights = layer_weights(self._network.blocks)
        if not weights or len(self._network.input_shape) != 3:
            raise ValueError(
                f"model: layer-inversion compares convolutions and dense layers by images, and {self._network.name} "
                f"has {len(weights)} such layers and inputs of shape {self._network.input_shape}; take another"
            )
        made, truth = self._own_updates(knowledge.without_copies())
        mean = knowledge.without_copies().inputs.mean(0)
        whole = layer_scores(*self._rebuilt(made), truth, mean)
        profile = []
        for number, (name, weight) in enumerate(weights.items(), 1):
            layer = name.removesuffix(".weight")
            kind = "conv" if weight.dim() > 2 else "linear"
            facts: dict[str, Any] = {"layer": layer, "index": number, "kind": kind, "parameters": weight.numel()}
            scores = layer_scores(*self._rebuilt(made, layer), truth, mean)
            profile.append(facts | scores | {"inverted_all": whole["inverted_psnr"]})
        best = max(profile, key=lambda row: row["inverted"])
        self._layer: str = best["layer"]
        self.report |= {"layer": self._layer, "updates_made": len(made), "all_layers": whole, "profile": profile}

    def invert(self, one: Victim) -> tuple[Array, float]:
        """Rebuild the inputs of one captured update from the best layer."""
        return self.rebuild(_only(one, self._layer), self.read_labels(one))

    def _own_updates(self, own: Knowledge) -> tuple[list[tuple[Update, Any]], list[Array]]:
        """Train on own examples, on each captured model in turn, as the sender does: updates, labels and inputs."""
        import torch

        blocks, draw = self._network.blocks, np.random.default_rng([self.seed, 6])
        seen, recipe = own.trained()
        starts, sender = list({one.round: one.start for one in seen.updates}.values()), seen.updates[0].sender
        if len(own) < recipe.behind(sender):
            raise ValueError(
                f"granted.surrogate: it has {len(own)} examples, and an update has {recipe.behind(sender)}; grant more"
            )
        made, truth = [], []
        for number in range(self.settings.examples):
            start = starts[number % len(starts)]
            rows = draw.permutation(len(own))[: recipe.behind(sender)]
            ends = []
            for client, part in enumerate(np.split(rows, recipe.clients(sender))):
                blocks.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in start.items()})
                recipe.imitate(blocks, own.inputs[part], own.labels[part], (self.seed, number, client))
                ends.append({name: value.detach().cpu().numpy().copy() for name, value in blocks.state_dict().items()})
            end = {name: np.mean([one[name] for one in ends], 0, dtype=value.dtype) for name, value in start.items()}
            made.append((Update(sender, number, start, end), torch.from_numpy(own.labels[rows])))
            truth.append(own.inputs[rows])
        return made, truth

    def _rebuilt(self, made: Sequence[tuple[Update, Any]], layer: str = "") -> tuple[list[Array], list[float]]:
        """Rebuild the inputs of own updates from one layer or from all; return them and the remaining distances."""
        found, left = [], []
        for update, labels in shown(made, f"{self.name}: {layer or 'all layers'}"):
            one = victim(update, self._network, self._recipe, len(labels))
            inputs, distance = self.rebuild(_only(one, layer) if layer else one, labels.to(one.device))
            found.append(np.nan_to_num(inputs).clip(*self._range).astype(np.float32))
            left.append(distance)
        return found, left


def _only(one: Victim, layer: str) -> OneLayer:
    """Return the update with only one layer's weights and biases to compare."""
    kept = {name: value for name, value in one.gradients.items() if name.rpartition(".")[0] == layer}
    return OneLayer(**vars(replace(one, gradients=kept)))
