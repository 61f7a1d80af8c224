"""DAGER: exact text from gradients, by testing which words' embeddings lie in their span."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.harness.training import Update
from adversary.attacks.harness.update_attack import UpdateAttack
from wireleak.common.targets.input import Input

# Rounding of a float32 weight, as a share of it.
_ROUNDING = 2.0**-24
_CHUNK = 1024


class DagerOptions(BaseModel):
    """Settings of `Dager`."""

    model_config = ConfigDict(extra="forbid")
    words: float = Field(
        0.05, gt=0, lt=1, description="Largest distance from the first block's span, as a share of a state's length."
    )
    texts: float = Field(
        0.003, gt=0, lt=1, description="Largest distance from the second block's span; .001 in the paper."
    )
    beam: int = Field(128, ge=1, description="Most words per position, and most beginnings of texts, that are kept.")


@register
class Dager(UpdateAttack):
    """Find the words at each position, then the texts, by testing whether their states lie in a gradient's span.

    The gradient of a projection to queries, keys and values is a sum of outer products with its inputs. While a batch
    has fewer words than the layer has inputs, only the states of its own words lie in the row space. At the first block
    a state depends only on the word and its position, so the attack tries all words of the vocabulary at all positions.
    At the second block of a causal transformer it also depends on the words before, so texts are built from their
    beginnings, word by word, keeping those whose state lies in that block's span. It needs one local step of SGD. The
    word embeddings' own gradient also names the words; the attack does not use it.

    References
    ----------
    Petrov, Dimitrov, Baader, Müller, Vechev, "DAGER: Exact Gradient Inversion for Large Language Models", NeurIPS 2024.
    """

    name = "dager"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.SERVER),
        sees=("model-update", "global-model"),
        knows=(Knows.ARCHITECTURE,),
    )
    target = Input
    options = DagerOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Find the network's parts; nothing is trained.

        Raises
        ------
        ValueError
            The network is not one of our transformers.
        """
        from wireleak.common.models.zoo.transformer import Block, PlacedWords

        _, self._recipe = knowledge.trained()
        network = knowledge.network()
        kinds = [type(block) for block in network.blocks]
        if kinds[:3] != [PlacedWords, Block, Block]:
            raise ValueError(f'model: dager reads causal transformers, not {network.name}; use "tiny-transformer"')
        self._blocks, self._length = network.blocks.double().eval(), network.input_shape[0]
        self._parts: list[Any] = list(self._blocks)[:3]

    def guess(self, updates: Sequence[Update]) -> Array:
        """Return texts (all updates' examples, length) of word numbers, by update; zeros where none was found."""
        import torch

        found = np.zeros((0, self._length), np.float32)
        self.report |= {"texts": [], "ranks": []}
        for update in updates:
            state = {name: torch.from_numpy(np.array(value)) for name, value in update.start.items()}
            self._blocks.load_state_dict(state)
            rows = np.zeros((self._recipe.behind(update.sender), self._length), np.float32)
            with torch.no_grad():
                texts = self._texts(update)
            rows[: len(texts)] = texts[: len(rows)]
            self.report["texts"].append(len(texts))
            found = np.concatenate([found, rows])
        return found

    def _texts(self, update: Update) -> Array:
        """Return the texts behind one update, longest first; they end where nearly every word lies in the span."""
        import torch

        words, first, second = self._parts
        spans = [self._span(update, f"{place}.project.weight") for place in (1, 2)]
        self.report["ranks"].append([span.shape[1] for span in spans])
        vocabulary = torch.arange(1, len(words.words.weight))
        texts: Any = torch.zeros(1, 0, dtype=torch.int64)
        ended: list[Any] = []
        for place in range(self._length):
            states = first.before(words.words.weight[1:] + words.places[place])
            distance = _distance(states, spans[0])
            # There may be more words than in the texts: a word at two positions brings their difference into the
            # span, and with it the other words of both positions. A span that holds nearly all words says nothing.
            here = vocabulary[distance < self.settings.words]
            if len(here) > self.settings.beam:
                break
            tried = torch.cat([texts.repeat_interleave(len(here), 0), here.repeat(len(texts))[:, None]], 1)
            if not len(tried):
                break
            last = [second.before(first(words(some)))[:, -1] for some in torch.split(tried, _CHUNK)]
            distance = _distance(torch.cat(last), spans[1])
            kept = torch.argsort(distance, stable=True)[: self.settings.beam]
            kept = kept[distance[kept] < self.settings.texts]
            # A beginning without a continuation is a text that ends at this position.
            goes_on = torch.zeros(len(texts), dtype=torch.bool).index_fill(0, kept // len(here), True)
            ended += list(texts[~goes_on])
            texts = tried[kept]
        whole = [*texts, *reversed(ended)]
        padded = [torch.nn.functional.pad(text, (0, self._length - len(text))) for text in whole if len(text)]
        return torch.stack(padded).numpy().astype(np.float32) if padded else np.zeros((0, self._length), np.float32)

    def _span(self, update: Update, layer: str) -> Any:
        """Return orthonormal columns (inputs, rank) of the row space of a layer's gradient, without rounding errors."""
        import torch

        change = torch.from_numpy(np.nan_to_num(update.delta[layer]).astype(np.float64))
        _, values, rows = torch.linalg.svd(change, full_matrices=False)
        # Greatest singular value of a matrix of independent errors.
        weights = np.asarray(update.start[layer], np.float64)
        noise = _ROUNDING * np.sqrt(np.square(weights).mean()) * sum(np.sqrt(weights.shape))
        return rows[values > 2 * noise].T


def _distance(states: Any, span: Any) -> Any:
    """Return the distance of each row of states (n, width) from the span, as a share of its length."""
    return (states - states @ span @ span.T).norm(dim=1) / states.norm(dim=1)
