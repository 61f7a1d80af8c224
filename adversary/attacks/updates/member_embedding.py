"""Member-embedding: the rows of an embedding that change are the words that were trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.harness.training import Update
from adversary.attacks.harness.update_attack import ModelAttack
from adversary.attacks.updates.members import Ints, fits, records
from wireleak.common.targets.member import Member
from wireleak.common.traffic import OTHERS

if TYPE_CHECKING:
    from torch import nn

Words = npt.NDArray[np.bool_]


class MemberEmbeddingOptions(BaseModel):
    """`MemberEmbedding` has no settings."""

    model_config = ConfigDict(extra="forbid")


@register
class MemberEmbedding(ModelAttack):
    """Guess that a record is a member if all of its words have an embedding that moved in some update.

    An embedding's gradient is zero except for the words of the batch, so no member is missed. Non-members made of
    common words are named too, and more of them the larger the batch or shard behind an update. A record with a missing
    word is ranked by the share of its words that moved; a fully covered record ranks higher the more words it has.

    References
    ----------
    Melis, Song, De Cristofaro, Shmatikov, "Exploiting Unintended Feature Leakage in Collaborative Learning", S&P 2019,
    section V-A.
    """

    name = "member-embedding"
    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.SERVER, Vantage.PARTICIPANT, Vantage.MALICIOUS_PARTICIPANT),
        sees=("global-model", "model-update"),
        knows=(Knows.ARCHITECTURE,),
    )
    target = Member
    options = MemberEmbeddingOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Note the words that moved in each update, and the words of each record."""
        seen, recipe = knowledge.training, knowledge.recipe
        assert seen is not None and recipe is not None
        blocks = knowledge.network().blocks
        layer, table = _embedding(blocks)
        self._words = _words_of(blocks, table, records(knowledge).x)
        moved = [_moved(one, f"{layer}.weight", recipe.participants) for one in seen.updates if fits(one)]
        self._moved = np.stack(moved) if moved else np.zeros((0, table.num_embeddings), bool)
        counts = self._moved.sum(1)
        self.report |= {"updates": len(moved), "layer": layer, "vocabulary": int(table.num_embeddings)}
        self.report["measured"] = {"words-moved": float(counts.mean()) if len(counts) else 0.0}

    def guess(self, count: int) -> Array:
        """Return probabilities (count, 2) of the records."""
        length = np.maximum(self._words.sum(1), 1)
        share = np.zeros(len(length))
        for moved in self._moved:
            share = np.maximum(share, (self._words & moved).sum(1) / length)
        # Below one half what is ruled out by a word; above, what is not.
        member = np.where(share == 1, 0.5 + 0.5 * length / (1 + length), share / 2)
        return np.stack([1 - member, member], 1).astype(np.float32)


def _moved(one: Update, name: str, participants: int) -> Words:
    """Return which rows of the embedding an update changed, bool (words,)."""
    start, end = np.asarray(one.start[name], np.float64), np.asarray(one.end[name], np.float64)
    # The others' mean is computed from rounded numbers, which moves what did not move by some last places.
    slack = 4 * participants * np.finfo(np.float32).eps if one.sender == OTHERS else 0.0
    moved: Words = (np.abs(end - start) > slack * np.abs(start).max(1, keepdims=True)).any(1)
    return moved


def _words_of(blocks: nn.Module, table: nn.Embedding, x: Array) -> Words:
    """Return which rows of the embedding each record looks up, bool (n, words); the padding row is not a word."""
    import torch

    looked_up: list[Ints] = []
    hook = table.register_forward_pre_hook(lambda _, given: looked_up.append(given[0].numpy()))
    try:
        blocks.eval()
        with torch.inference_mode():
            blocks(torch.from_numpy(x))
    finally:
        hook.remove()
    rows = np.concatenate(looked_up).reshape(len(x), -1)
    words = np.zeros((len(x), table.num_embeddings), bool)
    words[np.arange(len(x))[:, None], rows] = True
    if table.padding_idx is not None:
        words[:, table.padding_idx] = False
    return words


def _embedding(blocks: nn.Module) -> tuple[str, Any]:
    from torch import nn

    for name, module in blocks.named_modules():
        if isinstance(module, nn.Embedding):
            return name, module
    raise ValueError("model: member-embedding needs a network with a word embedding; use another attack")
