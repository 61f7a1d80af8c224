"""A package outside the tree adds a target in one file: an attack guesses it, and its own scorer judges the guess."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np

from adversary.attacks.harness.run import attack
from wireleak.common.targets.attribute import PrivateAttribute
from wireleak.common.targets.input import Input
from wireleak.common.targets.registry import TARGETS, target_of

BRIGHT = '''
import numpy as np
from wireleak.common.targets.attribute import PrivateAttribute, Values
from wireleak.common.targets.registry import register


@register
class Bright(PrivateAttribute):
    """Whether the left half of an input is the brighter one."""

    name = "bright"
    attribute = None

    def derived(self, inputs):
        half = inputs.shape[-1] // 2
        left, right = inputs[..., :half], inputs[..., half:]
        return (left.mean((1, 2, 3)) > right.mean((1, 2, 3))).astype(np.int64)

    def ground_truth(self, sealed):
        return Values(self.derived(sealed.victims("x")), sealed.victims("y"), None)
'''


def test_a_target_of_one_file_is_guessed_and_scored(installed: Any, config: Any, world: Any) -> None:
    installed(TARGETS, BRIGHT, bright="outside:Bright")
    path, out = config(attack="attributes", target="bright")
    attack(path)
    assert json.loads((out / "meta.json").read_text())["target"] == "bright"
    with np.load(out / "guesses.npz") as file:
        guesses = {"" if name == "attributes" else name.removeprefix("control:"): file[name] for name in file.files}
    assert list(guesses) == ["", "majority", "conditional-majority", "permuted"]
    arrays = {"x": world.private, "y": (world.private_seen[:, -1] > 0).astype(np.int64)}
    target, sealed = target_of("bright"), SimpleNamespace(federated=False, victims=arrays.__getitem__)
    rows = target.score(guesses, target.ground_truth(sealed), 0)
    auc = {row.guess: row.score.value for row in rows if row.score.measure == "auc"}
    assert {row.target for row in rows} == {"bright"}
    assert auc[""] > 0.97 and auc["majority"] == 0.5 and 0.3 < auc["permuted"] < 0.7


def test_a_name_that_is_no_target_is_a_private_attribute() -> None:
    assert type(target_of("input")) is Input and target_of("input").attribute is None
    slant = target_of("slant")
    assert type(slant) is PrivateAttribute and slant.attribute == slant.shown == "slant"
