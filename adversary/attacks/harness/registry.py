"""Attacks by name: ours, and those that installed packages add through the entry point group "wireleak.attacks"."""

from __future__ import annotations

import importlib
import inspect
from importlib.metadata import EntryPoint, entry_points

from adversary.attacks.harness.attack import Attack

GROUP = "wireleak.attacks"
_OURS = (
    "adversary.attacks.hidden.covert",
    "adversary.attacks.activations.unpaired",
    "adversary.attacks.activations.inversion",
    "adversary.attacks.activations.attributes",
    "adversary.attacks.activations.sizes",
    "adversary.attacks.activations.post_decoder",
    "adversary.attacks.activations.candidates",
    "adversary.attacks.activations.rmle",
    "adversary.attacks.activations.inverse_network",
    "adversary.attacks.activations.shadow",
    "adversary.attacks.activations.unsplit",
    "adversary.attacks.activations.known_pairs",
    "adversary.attacks.activations.ladder",
    "adversary.attacks.activations.word_set",
    "adversary.attacks.labels.label_norm",
    "adversary.attacks.labels.label_cosine",
    "adversary.attacks.labels.label_match",
    "adversary.attacks.activations.fsha",
    "adversary.attacks.updates.property",
    "adversary.attacks.updates.localise",
    "adversary.attacks.hidden.song_low_bits",
    "adversary.attacks.hidden.song_sign",
    "adversary.attacks.hidden.song_correlated",
    "adversary.attacks.hidden.song_capacity",
    "adversary.attacks.updates.member_loss",
    "adversary.attacks.updates.member_shadow",
    "adversary.attacks.updates.member_embedding",
    "adversary.attacks.gradients.dlg",
    "adversary.attacks.gradients.idlg",
    "adversary.attacks.gradients.inverting_gradients",
    "adversary.attacks.gradients.first_layer",
    "adversary.attacks.gradients.imprint",
    "adversary.attacks.gradients.dager",
    "adversary.attacks.hidden.secret_sharer",
)


_registered: dict[str, type[Attack]] = {}


def register(attack: type[Attack]) -> type[Attack]:
    """Class decorator: make `attack` known under its name.

    Raises
    ------
    ValueError
        The name is another attack's.
    """
    other = _registered.get(attack.name)
    if other is not None and other.__qualname__ != attack.__qualname__:
        raise ValueError(f"attack: {attack.name!r} is registered twice, by {other.__module__} and {attack.__module__}")
    _registered[attack.name] = attack
    return attack


def attacks() -> dict[str, type[Attack]]:
    """Every attack by name.

    Raises
    ------
    ValueError
        An installed package's attack cannot be loaded.
    """
    for module in _OURS:
        importlib.import_module(module)
    for point in entry_points(group=GROUP):
        register(_load(point))
    return dict(sorted(_registered.items()))


def find(name: str) -> type[Attack]:
    """Return the attack called `name`.

    Raises
    ------
    ValueError
        There is none.
    """
    known = attacks()
    if name not in known:
        raise ValueError(f"attack: no attack called {name!r}; choose one of {', '.join(known)}")
    return known[name]


def summary(attack: type[Attack]) -> str:
    """First sentence of the attack's docstring."""
    return (inspect.getdoc(attack) or "").split("\n\n")[0].replace("\n", " ")


def _load(point: EntryPoint) -> type[Attack]:
    try:
        attack = point.load()
    except Exception as error:  # somebody else's code: whatever it raises is one clear line of ours
        raise ValueError(f"attack: entry point {point.name!r} ({point.value}) cannot be loaded: {error}") from error
    if not (isinstance(attack, type) and issubclass(attack, Attack)):
        raise ValueError(
            f"attack: entry point {point.name!r} ({point.value}) is no adversary.attacks.harness.attack.Attack"
        )
    return attack
