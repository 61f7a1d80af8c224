"""The contract that every attack inherits: same seed, same guess; finite; of the right shape; nothing not granted.

An attack is given the smallest scene that its kind takes. One that needs another network, or data of another kind,
names its scene in `SCENES`, and shorter settings in `QUICK`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel

from adversary.attacks.harness.activation_attack import ActivationAttack
from adversary.attacks.harness.gradient_attack import GradientAttack
from adversary.attacks.harness.gradients import Gradients
from adversary.attacks.harness.knowledge import Knowledge
from adversary.attacks.harness.registry import ATTACKS
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.harness.training import Recipe, Seen, Update
from adversary.attacks.harness.update_attack import ModelAttack, UpdateAttack
from wireleak.common.measures.statistics.secret_sharer import ALPHABET, WINDOW
from wireleak.common.models import ModelConfig, save_weights
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import ClientPlan
from wireleak.common.targets.input import Input

OURS = {name: kind for name, kind in ATTACKS.all().items() if kind.__module__.startswith("adversary.")}
OWN, VICTIMS = 48, 5
PROBABILITIES = ("attribute", "label", "member")


class NotGranted:
    """Stands for a file or a fact that the threat model does not grant; any use of it fails the test."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: object) -> Any:
        pytest.fail(f"the attack uses the {self.__dict__['_name']}, which its threat model does not grant")

    __getattr__ = __getitem__ = __fspath__ = __iter__ = __len__ = __bool__ = __call__ = __array__ = _refuse


@dataclass
class Scene:
    """Everything that could be granted, the argument of `guess`, and how many rows are guessed of which shape."""

    known: Knowledge
    seen: Any
    rows: int
    shape: tuple[int, ...]


def limited(known: Knowledge, threat: ThreatModel) -> Knowledge:
    """What the threat model grants; the rest is missing, or fails when it is used."""
    granted = set(map(str, threat.knows))
    files: dict[str, Any] = dict(known.files) | (
        {} if "candidates" in granted else {"candidates": NotGranted("candidates")}
    )
    rest: dict[str, Any] = {
        "model": NotGranted("architecture") if not {"architecture", "weights", "head"} & granted else known.model,
        "encoder": NotGranted("weights") if "weights" not in granted else known.encoder,
        "head": NotGranted("head") if "head" not in granted else known.head,
    }
    if not {"global-model", "model-update"} & set(threat.sees):
        rest |= {"training": NotGranted("federated training"), "recipe": NotGranted("recipe")}
    return replace(known.limited(granted), files=files, **rest)


def pictures(n: int, shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((n, *shape), dtype=np.float32)


def texts(n: int, length: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 40, (n, length)).astype(np.float32)


def knowledge(inputs: np.ndarray, model: ModelConfig | None = None, **more: Any) -> Knowledge:
    """The attacker's own examples, with two labels and an attribute of two values; some are transformed copies."""
    n = len(inputs)
    labels = np.arange(n) % (model.classes if model else 2)
    copies = np.arange(n) >= n - 4
    nothing = np.zeros(0, np.float32)
    return Knowledge(nothing, inputs, labels, np.arange(n) // 2 % 2, 2, copies, 0, model=model, **more)


def activations(folder: Path) -> Scene:
    """A convolutional network that is cut, its weights, and activations of the attacker's device and of victims."""
    from adversary.hijack.config import HijackOptions
    from adversary.hijack.fsha import Hijacker

    model = ModelConfig(name="strided28", input_shape=(1, 28, 28), classes=2, cut=4, seed=5)
    encoder, head = model.network().split(model.cut)
    save_weights(encoder, folder / "encoder.safetensors")
    save_weights(head, folder / "head.safetensors")
    own, private = pictures(OWN, (1, 28, 28), 1), pictures(VICTIMS, (1, 28, 28), 2)
    np.savez(folder / "candidates.npz", x=private)
    with torch.no_grad():
        seen, sent = (encoder(torch.from_numpy(x)).numpy() for x in (own, private))
    hijacker = Hijacker(model, own, HijackOptions(width=0.25, warm_up=1), seed=3)
    hijacker.step(seen[:8], np.zeros(8, np.int64))
    hijacker.save(1, folder / "head-1.safetensors", folder)
    files = {"candidates": folder / "candidates.npz", "hijack": folder}
    granted = {"encoder": folder / "encoder.safetensors", "head": folder / "head.safetensors", "files": files}
    return Scene(knowledge(own, model, **granted).join(seen), sent, VICTIMS, (1, 28, 28))


def bags_of_words(folder: Path) -> Scene:
    """Texts, and the mean of their embeddings."""
    table = np.random.default_rng(9).standard_normal((41, 24)).astype(np.float32)
    own, private = texts(OWN, 6, 1), texts(VICTIMS, 6, 2)
    seen, sent = (table[x.astype(int)].mean(1) for x in (own, private))
    return Scene(knowledge(own).join(seen), sent, VICTIMS, (6,))


def gradients(folder: Path) -> Scene:
    """Gradients that a head sends for its clients' activations; the labels of a few are known."""
    model = ModelConfig(name="strided28", input_shape=(1, 28, 28), classes=2, cut=4, seed=5)
    _, head = model.network().split(model.cut)
    save_weights(head, folder / "head.safetensors")
    labels = np.arange(VICTIMS) % 2
    z = torch.from_numpy(pictures(VICTIMS, (32, 1, 1), 3)).requires_grad_()
    loss = torch.nn.functional.cross_entropy(head(z), torch.from_numpy(labels), reduction="sum")
    (sent,) = torch.autograd.grad(loss, z)
    known = np.where(np.arange(VICTIMS) < 2, labels, -1)
    times = np.arange(VICTIMS, dtype=np.float32)
    seen = Gradients(sent.flatten(1).numpy(), times, known, z.detach().flatten(1).numpy(), None, VICTIMS)
    own = knowledge(pictures(OWN, (1, 28, 28), 1), model, head=folder / "head.safetensors")
    return Scene(own, seen, VICTIMS, (1, 28, 28))


def federated(
    model: ModelConfig, inputs: np.ndarray, rounds: int, examples: int, clients: int = 2, **files: Path
) -> Scene:
    """Clients that train for some rounds on examples like the attacker's."""
    plan = ClientPlan(rounds=rounds, epochs=1, batch=examples, learning_rate=0.1, optimiser="sgd")
    blocks, how = model.network().blocks, Recipe(plan, clients, examples)
    state, updates = weights(blocks), []
    models = {1: state}
    for number in range(1, rounds + 1):
        ends = []
        for client in range(clients):
            load(blocks, models[number])
            rows = np.random.default_rng([number, client]).permutation(len(inputs))[:examples]
            train_whole(blocks, inputs[rows], rows % model.classes, Training(plan, (0, number)))
            ends.append(weights(blocks))
        updates += [Update(client, number, models[number], end) for client, end in enumerate(ends)]
        models[number + 1] = {name: np.mean([end[name] for end in ends], 0) for name in state}
    seen = Seen(models, tuple(updates))
    known = knowledge(inputs, model, files=files, training=seen, recipe=how)
    return Scene(known, seen.updates, len(updates) * examples, model.input_shape)


def weights(blocks: Any) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in blocks.state_dict().items()}


def load(blocks: Any, state: dict[str, np.ndarray]) -> None:
    blocks.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})


def updates(folder: Path) -> Scene:
    """A perceptron, of which each update holds one example."""
    model = ModelConfig(name="imprint28", input_shape=(1, 28, 28), classes=2, cut=1, seed=0)
    return federated(model, pictures(OWN, (1, 28, 28), 1), 1, 1)


def small_pictures(folder: Path) -> Scene:
    """A smooth network for searches by gradients."""
    model = ModelConfig(name="dlg-lenet", input_shape=(1, 8, 8), classes=4, cut=1)
    return federated(model, pictures(OWN, (1, 8, 8), 1), 1, 2)


def texts_of_a_transformer(folder: Path) -> Scene:
    model = ModelConfig(name="tiny-transformer", input_shape=(6,), classes=2, cut=1)
    return federated(model, texts(OWN, 6, 1), 1, 1)


def rounds_with_a_property(folder: Path) -> Scene:
    """Each update tells of one attribute: as many rows as updates."""
    model = ModelConfig(name="conv1d", input_shape=(2, 16), classes=2, cut=1, seed=0)
    scene = federated(model, pictures(8 * OWN, (2, 16), 1), 3, 8)
    return replace(scene, rows=len(scene.seen))


def encoders_with_a_property(folder: Path) -> Scene:
    """The same in split training: only the encoder's layers are sent."""
    scene = rounds_with_a_property(folder)
    known, (seen, _) = scene.known, scene.known.trained()
    assert known.model is not None
    own = known.network().split(known.model.cut)[0].state_dict()

    def part(state: Any) -> dict[str, np.ndarray]:
        return {name: state[name] for name in own}

    sent = tuple(replace(one, start=part(one.start), end=part(one.end)) for one in seen.updates)
    seen = Seen({number: part(state) for number, state in seen.models.items()}, sent)
    return replace(scene, known=replace(known, training=seen), seen=sent)


def models(folder: Path) -> Scene:
    """Records whose membership is asked for, or pictures that are hidden in the weights: a count of them."""
    scene = updates(folder)
    np.savez(folder / "records.npz", x=pictures(VICTIMS, (1, 28, 28), 3), y=np.arange(VICTIMS) % 2)
    known = replace(scene.known, files={"records": folder / "records.npz"})
    return Scene(known, VICTIMS, VICTIMS, scene.shape)


def records_of_words(folder: Path) -> Scene:
    model = ModelConfig(name="deep-averaging", input_shape=(6,), classes=2, cut=1)
    np.savez(folder / "records.npz", x=texts(VICTIMS, 6, 3), y=np.arange(VICTIMS) % 2)
    scene = federated(model, texts(OWN, 6, 1), 1, 2, records=folder / "records.npz")
    return Scene(scene.known, VICTIMS, VICTIMS, scene.shape)


def records_of_three_clients(folder: Path) -> Scene:
    model = ModelConfig(name="dlg-lenet", input_shape=(1, 8, 8), classes=4, cut=1)
    np.savez(folder / "records.npz", x=pictures(VICTIMS, (1, 8, 8), 3), y=np.arange(VICTIMS) % 4)
    scene = federated(model, pictures(OWN, (1, 8, 8), 1), 2, 4, 3, records=folder / "records.npz")
    return Scene(scene.known, VICTIMS, VICTIMS, scene.shape)


def language(folder: Path) -> Scene:
    """A language model, and a hundred numbers that it may have learnt."""
    model = ModelConfig(name="char-lstm", input_shape=(WINDOW,), classes=len(ALPHABET), cut=1)
    inputs = np.random.default_rng(1).integers(0, len(ALPHABET), (OWN, WINDOW)).astype(np.float32)
    return Scene(federated(model, inputs, 1, 2).known, 100, 100, (1,))


BASES = {ActivationAttack: activations, GradientAttack: gradients, UpdateAttack: updates, ModelAttack: models}
SCENES: dict[str, Callable[[Path], Scene]] = {
    "word-set": bags_of_words,
    "dlg": small_pictures,
    "idlg": small_pictures,
    "inverting-gradients": small_pictures,
    "inverting-gradients-prior": small_pictures,
    "layer-inversion": small_pictures,
    "dager": texts_of_a_transformer,
    "property": rounds_with_a_property,
    "property-split": encoders_with_a_property,
    "localise": rounds_with_a_property,
    "member-embedding": records_of_words,
    "member-fedmia": records_of_three_clients,
    "secret-sharer": language,
}
QUICK: dict[str, dict[str, Any]] = {
    "dlg": {"iterations": 3, "restarts": 1},
    "idlg": {"iterations": 3, "restarts": 1},
    "inverse-network": {"epochs": 1},
    "inversion": {"epochs": 1},
    "inverting-gradients": {"iterations": 8, "refine": 8},
    "inverting-gradients-prior": {"refine": 8, "code_steps": 3, "prior_steps": 10},
    "known-pairs": {"pairs": 20, "steps": 3},
    "ladder": {"epochs": 2, "model": "mlp-64", "selectivity": False},
    "layer-inversion": {"examples": 2, "iterations": 8, "refine": 8},
    "localise": {"snapshots": 2, "permutations": 1, "probes": 2, "draws": 2},
    "member-lira": {"form": "online", "shadows": 6},
    "member-rmia": {"references": 1},
    "member-shadow": {"shadows": 2},
    "post-decoder": {"epochs": 1},
    "property": {"mixed": 1, "without": 2, "tsne": False},
    "property-split": {"mixed": 1, "without": 2, "tsne": False},
    "rmle": {"iterations": 3},
    "rmle-prior": {"iterations": 3, "prior_steps": 10},
    "shadow": {"iterations": 3, "epochs": 1},
    "shadow-query": {"iterations": 3, "epochs": 1},
    "unpaired": {"hidden": (8,), "steps": 3},
    "unsplit": {"clones": 1, "outer": 1, "inner_input": 2, "inner_model": 2},
    "word-set": {"epochs": 2, "model": "logistic"},
}


def scene_of(name: str, kind: type[Any], folder: Path) -> Scene:
    make = SCENES.get(name) or next(make for base, make in BASES.items() if issubclass(kind, base))
    torch.manual_seed(0)
    return make(folder)


def attacked(kind: type[Any], scene: Scene, options: dict[str, Any], seed: int = 0) -> np.ndarray:
    attack = kind(kind.options(**options), seed)
    attack.fit(limited(replace(scene.known, seed=seed), kind.threat))
    guess: np.ndarray = attack.guess(scene.seen)
    return guess


@pytest.fixture(params=list(OURS))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[type[Any], Scene, dict[str, Any]]:
    kind = OURS[request.param]
    return kind, scene_of(request.param, kind, tmp_path), QUICK.get(request.param, {})


def test_an_attack_keeps_the_contract(case: tuple[type[Any], Scene, dict[str, Any]]) -> None:
    """By what it is granted, and by nothing else: not by the state of any global generator either."""
    kind, scene, options = case
    guess = attacked(kind, scene, options)
    np.random.seed(12345)
    torch.manual_seed(12345)
    again = attacked(kind, scene, options)
    assert np.array_equal(guess, again), "the same seed gives another guess"
    assert guess.dtype == np.float32 and np.isfinite(guess).all()
    if kind.target.name in PROBABILITIES:
        assert guess.shape == (scene.rows, 2)
        assert guess.min() >= 0 and np.allclose(guess.sum(1), 1, atol=1e-5)
    else:
        assert guess.shape == (scene.rows, *scene.shape)
    assert math.prod(guess.shape)


def test_an_attack_that_asks_for_more_than_it_is_granted_fails(tmp_path: Path) -> None:
    class Options(BaseModel):
        """No settings."""

    class Cheat(ActivationAttack):
        """Read the weights, and say that queries suffice."""

        name, target, options = "cheat", Input, Options
        threat = ThreatModel((Vantage.LINK,), ("activation",), (Knows.QUERIES,))
        reads = "encoder"

        def fit(self, knowledge: Knowledge) -> None:
            if getattr(knowledge, self.reads):
                self.report["weights"] = getattr(knowledge, self.reads)

        def guess(self, activations: Any) -> Any:
            return activations

    scene = activations(tmp_path)
    for field, name in (("encoder", "weights"), ("head", "head"), ("model", "architecture"), ("training", "training")):
        Cheat.reads = field
        with pytest.raises(pytest.fail.Exception, match=f"uses the .*{name}, which its threat model does not grant"):
            attacked(Cheat, scene, {})
    assert not len(limited(scene.known, Cheat.threat).inputs)
