from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adversary.attacks.harness.knowledge import Knowledge
from wireleak.common.models import ModelConfig

MODEL = ModelConfig(name="strided28", input_shape=(1, 28, 28), classes=2, cut=4)
EVERYTHING = Knowledge(
    seen=np.ones((5, 32), np.float32),
    inputs=np.ones((5, 1, 28, 28), np.float32),
    labels=np.ones(5, np.int64),
    attribute=np.ones(5, np.int64),
    classes=2,
    augmented=np.zeros(5, bool),
    seed=0,
    model=MODEL,
    encoder=Path("encoder"),
    head=Path("head"),
)


@pytest.mark.parametrize(
    ("knows", "left"),
    [
        ({"nothing"}, set()),
        ({"surrogate"}, {"inputs"}),
        ({"queries"}, {"seen"}),
        ({"surrogate", "queries"}, {"inputs", "seen"}),
        ({"architecture"}, {"model"}),
        ({"weights"}, {"model", "encoder"}),
        ({"surrogate", "architecture", "head"}, {"inputs", "model", "head"}),
    ],
)
def test_an_attack_gets_what_its_threat_model_knows_and_nothing_else(knows: Any, left: Any) -> None:
    known = EVERYTHING.limited(knows)
    there = {"inputs": len(known.inputs), "seen": len(known.seen), "model": known.model, "encoder": known.encoder}
    assert {name for name, what in (there | {"head": known.head}).items() if what} == left
    assert len(known.labels) == len(known.inputs) and len(known.augmented) == len(known.inputs)
    assert known.inputs.shape[1:] == (1, 28, 28)


def test_the_network_is_built_where_it_is_known_and_refused_where_not() -> None:
    assert EVERYTHING.network().activation_shape(4) == (32, 1, 1)
    with pytest.raises(ValueError, match=r"granted.model: .*grant the model's config"):
        EVERYTHING.limited({"surrogate"}).network()
