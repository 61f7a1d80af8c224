"""The scores that an attack's own is compared with: baselines, readers of the wire, bounds, quantiles and windows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Role = Literal["attack", "baseline", "reader", "bound", "quantile", "window"]
UNBIASED, VAN_TREES = "unbiased only", "Gaussian inputs"
TWO_INPUTS, BALL = "any two inputs", "clip ball"
PROVED = "proved"
UNPLANTED, LIKELIEST = "unplanted", "likeliest"
LEAST_EXPOSED, MOST_EXPOSED = "least exposed 5 %", "most exposed 5 %"
# Baselines that make the same guess for every victim, so they rest on no traffic.
CONSTANT = frozenset({"mean", "commonest", "background", "majority"})


@dataclass(frozen=True)
class Reference:
    """A score that an attack's own is compared with.

    Parameters
    ----------
    name : str
        As results and `guesses.npz` spell it.
    role : Role
        A baseline ignores the victim's traffic. A reader uses it, but is not the attack. A bound is a theoretical
        limit. A quantile is one of the victims' own scores. A window is the attack's own score in some rounds only.
    label : str
        Short name for people.
    meaning : str
        One line for a reader who does not know it.
    article : str
        Article before the label in a sentence.
    """

    name: str
    role: Role
    label: str
    meaning: str
    article: str = "the "

    @property
    def phrase(self) -> str:
        """The label inside a sentence."""
        return self.article + self.label


KNOWN = (
    Reference(
        "mean", "baseline", "mean image", "the average of the attacker's own data, the same guess for every victim"
    ),
    Reference(
        "commonest", "baseline", "commonest words", "the words of the attacker's own texts, the same for every victim"
    ),
    Reference("background", "baseline", "empty image", "an all-background picture for every victim"),
    Reference("shuffled", "baseline", "shuffled activations", "the attack, given another victim's activation", ""),
    Reference(UNPLANTED, "baseline", "numbers never planted", "random numbers that no training text held", ""),
    Reference("majority", "baseline", "majority class", "the attribute's commonest value, the same for every victim"),
    Reference(
        "conditional-majority",
        "baseline",
        "majority given the task label",
        "the commonest value among inputs with the same task label",
    ),
    Reference("permuted", "baseline", "permuted labels", "the attack, trained on labels put in random order", ""),
    Reference("ridge", "reader", "linear decoder (ridge)", "the best linear map from activation to input"),
    Reference("nearest", "reader", "nearest neighbour", "the attacker's own input whose activation is nearest"),
    Reference("untrained", "reader", "untrained encoder", "the same attack on an encoder with random weights"),
    Reference(
        "in-process", "reader", "tensors handed over", "the same attack given the tensors in process, without the wire"
    ),
    Reference(
        UNBIASED,
        "bound",
        "1/dFIL (unbiased only)",
        "1/dFIL: no unbiased attacker has a lower error; unbiased only: trained attackers know what inputs look like, "
        "which makes them biased, and they may have a lower error",
    ),
    Reference(
        VAN_TREES,
        "bound",
        "van Trees bound (Gaussian inputs)",
        "no attacker has a lower error if inputs are Gaussian with the mean and covariance of the attacker's data; "
        "images are not Gaussian, so for them it is only a guide",
    ),
    Reference(
        TWO_INPUTS,
        "bound",
        "ReRo bound (any two inputs)",
        "reconstruction robustness: how often, at most, an attacker that guesses each message by itself names the "
        "right input among the victims', because any two activations are at most two clips apart",
    ),
    Reference(
        BALL,
        "bound",
        "ReRo bound (clip ball)",
        "reconstruction robustness, because no activation is further than the clip from zero; tighter",
    ),
    Reference(PROVED, "bound", "proved by the noise", "the ε that clip and noise prove for one message"),
    Reference(LIKELIEST, "bound", "likeliest of all", "exposure of the likeliest number: log2 of how many there are"),
    Reference(LEAST_EXPOSED, "quantile", "least exposed 5 %", "the value that 5 % of the victims stay below"),
    Reference(MOST_EXPOSED, "quantile", "most exposed 5 %", "the value that 5 % of the victims exceed"),
)
_BY_NAME = {known.name: known for known in KNOWN}
_WINDOW = re.compile(r"rounds (\d+) to (\d+)")
_ORDER = ["", *_BY_NAME]


def reference(name: str) -> Reference:
    """Return the reference called `name`; an unknown one is a baseline, which makes claims harder."""
    if (floats := name.removeprefix("pca-")).isdecimal():
        return Reference(
            name,
            "reader",
            f"PCA, {floats} numbers",
            f"the victim's own input, reduced to {floats} principal components of the attacker's inputs: the most "
            "that a linear code as wide as the wire could carry; it is not an attack",
            "",
        )
    if window_of(name) is not None:
        return Reference(name, "window", name, "the same guess, scored in these rounds only", "")
    return _BY_NAME.get(name) or Reference(name, "baseline", name, name)


def reference_order(name: str) -> tuple[int, str]:
    """Sort key: the attack's own row, called "", then known references in the order above, then the others."""
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def window_name(first: int, last: int) -> str:
    """Return the name of the attack's score in the rounds from `first` to `last`."""
    return f"rounds {first} to {last}"


def window_of(name: str) -> tuple[int, int] | None:
    """Return the first and last round of a score with such a name; None for other names."""
    found = _WINDOW.fullmatch(name)
    return None if found is None else (int(found[1]), int(found[2]))
