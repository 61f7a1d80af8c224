"""The words for measures, controls and vantage points, and how their numbers are written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

# No-break, so that the sign never starts a line.
PERCENT = "\u00a0%"


@dataclass(frozen=True)
class Measure:
    """How to read one measure.

    Parameters
    ----------
    label : str
        Short name.
    meaning : str
        One line for a reader who does not know it.
    higher_is_leakier : bool
        Whether a higher value is better for the attacker.
    low, high : float
        Bounds of possible values; NaN where there is none.
    places : int
        Decimals when written.
    percent : bool
        Written as a percentage.
    unit : str
        Unit, empty for pure numbers.
    """

    label: str
    meaning: str
    higher_is_leakier: bool = True
    low: float = math.nan
    high: float = math.nan
    places: int = 3
    percent: bool = False
    unit: str = ""

    def write(self, value: float) -> str:
        """`value` as people read it, without the unit unless it is a percent sign."""
        if math.isnan(value):
            return "–"
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        if self.percent:
            return f"{value * 100:.1f}{PERCENT}"
        return f"{value:.{self.places}f}".replace("-", "−")


@dataclass(frozen=True)
class Control:
    """The words for a baseline, reader, bound or quantile."""

    label: str
    meaning: str
    article: str = "the "

    @property
    def phrase(self) -> str:
        """The label inside a sentence."""
        return self.article + self.label


# In the order in which columns stand; the first that a target has is its headline.
MEASURES = {
    "words-found": Measure(
        "Words found",
        "F1 of the set of words guessed against the set that the text holds, whatever their order",
        low=0.0,
        high=1.0,
    ),
    "words": Measure(
        "Words right",
        "share of a text's words rebuilt at their place; chance is one in the vocabulary",
        low=0.0,
        high=1.0,
        percent=True,
    ),
    "mse": Measure(
        "MSE", "mean squared error per value, pixels from 0 to 1; lower is closer", False, low=0.0, places=4
    ),
    "reid": Measure(
        "Re-identified",
        "how often the rebuilt input is nearer to its own original than to any of the other victims' inputs",
        low=0.0,
        high=1.0,
        percent=True,
    ),
    "ssim": Measure("SSIM", "structural similarity, 1 is the same picture; below 0.3 is hard to recognise", high=1.0),
    "psnr": Measure("PSNR", "peak signal to noise ratio against a peak of 1; higher is closer", places=1, unit="dB"),
    "bins-filled": Measure(
        "Bins filled",
        "share of the inputs for which an imprint bin was found; of inputs that share one, their mean is read",
        low=0.0,
        high=1.0,
        percent=True,
    ),
    "auc": Measure(
        "AUC",
        "how well the guess ranks inputs that have the attribute above those that do not (mean over classes); "
        "0.5 is chance, 1 is certainty",
        low=0.0,
        high=1.0,
    ),
    "tpr-at-1": Measure(
        "TPR at FPR 1 %",
        "share of the members named while at most 1 % of the others are",
        low=0.0,
        high=1.0,
        percent=True,
    ),
    "tpr-at-0.1": Measure(
        "TPR at FPR 0.1 %",
        "share of the members named while at most 0.1 % of the others are",
        low=0.0,
        high=1.0,
        percent=True,
    ),
    "precision-at-recall-1": Measure(
        "Precision at recall 1",
        "share of members among the records named, where no member may be missed",
        low=0.0,
        high=1.0,
        percent=True,
    ),
    "mape": Measure(
        "MAPE",
        "mean absolute error of a hidden picture's grey levels, 0 to 255; lower is closer",
        False,
        0.0,
        255.0,
        1,
    ),
    "cosine": Measure("Cosine", "cosine of the angle between a hidden picture and what was read of it", high=1.0),
    "bit-accuracy": Measure(
        "Bits right", "share of a hidden picture's bits read right, 8 a pixel", low=0.0, high=1.0, percent=True
    ),
    "bits-per-parameter": Measure("Bits a parameter", "bits of the secret by number of the network's parameters"),
    "parameters-used": Measure(
        "Parameters used", "share of the network's parameters whose low bits are written over", percent=True
    ),
    "bits-per-query": Measure("Bits a query", "bits of the secret that one answered query carries", places=1),
    "queries": Measure("Queries", "questions to the released model", False, places=0),
    "exposure": Measure(
        "Exposure",
        "bits by which a planted number is likelier to the model than any number would be: log2 of how many numbers "
        "there are, less log2 of its rank among them; 1.44 on average for a number that the model never saw, and all "
        "the bits (13.3 of four digits) for the likeliest of all; another planted number that is likelier costs it",
        low=0.0,
        places=1,
        unit="bits",
    ),
    "exposure-extrapolated": Measure(
        "Extrapolated exposure",
        "the same by a skew-normal fitted to 1,000 numbers that were never planted, which is not limited by how many "
        "numbers there are",
        low=0.0,
        places=1,
        unit="bits",
    ),
    "words-moved": Measure("Words moved", "words whose embedding an update moved, mean over updates", False, places=0),
    "balanced-accuracy": Measure(
        "Balanced accuracy", "share guessed right, each class counting the same", low=0.0, high=1.0, percent=True
    ),
    "accuracy": Measure("Accuracy", "share guessed right", low=0.0, high=1.0, percent=True),
    "epsilon": Measure(
        "ε", "what DP-SGD spent of its privacy budget, an example of its training data", low=0.0, places=2
    ),
    "flagged": Measure(
        "Flagged",
        "whether `wireleak inspect` finds something hidden in the link's low bits: 1 it does",
        False,
        0.0,
        1.0,
        0,
    ),
    "selectivity": Measure(
        "Selectivity",
        "accuracy less that on a control task of one random label a person, both on held-out rows of people that the "
        "attacker trained on; near 0, the attacker knows its people and not the attribute",
        low=-1.0,
        high=1.0,
    ),
    "seen-people-accuracy": Measure(
        "Accuracy on people it knows",
        "share guessed right among held-out rows of people that the attacker trained on, which flatters it",
        low=0.0,
        high=1.0,
        percent=True,
    ),
    "control-task-accuracy": Measure(
        "Accuracy on the control task",
        "share of random labels, one a person, guessed right on held-out rows: what the attacker learns by heart",
        low=0.0,
        high=1.0,
        percent=True,
    ),
    "training-mse": Measure(
        "Training MSE",
        "mean squared error on the attacker's own inputs that it learnt from, which flatters it",
        False,
        low=0.0,
        places=4,
    ),
    "dfil": Measure(
        "dFIL",
        "Fisher information of a message about each input value, Tr(JᵀJ)/(dσ²), mean over victims; Laplace noise has "
        "its scale b in σ's place",
        low=0.0,
    ),
    "eta": Measure(
        "η", "the most that a message tells about any direction of the input, ‖J‖₂/σ (Hannun's FIL)", low=0.0, places=2
    ),
    "wire-epsilon": Measure(
        "ε of a message",
        "local differential privacy of one message at δ = 10⁻⁵: at least what the attack's hits prove (95 %), at most "
        "what the noise proves",
        low=0.0,
        places=2,
    ),
    "gradient-likeness": Measure(
        "Gradients follow labels",
        "the clients' check: mean cosine between gradients of one label less that across labels; about 0 where the "
        "server ignores labels",
        False,
        low=-2.0,
        high=2.0,
    ),
    "participant-norm-ratio": Measure(
        "Attacker's norm ratio",
        "length of the malicious participant's update by the median length of the others', as the server could see it, "
        "mean over rounds; 1 does not stand out",
        low=0.0,
    ),
    "participant-cosine": Measure(
        "Attacker's cosine",
        "cosine of the malicious participant's update with the mean of the others', as the server could see it, mean "
        "over rounds",
        low=-1.0,
        high=1.0,
    ),
    "device-seconds": Measure(
        "Device CPU", "CPU time of a client's training in the last round", False, low=0.0, places=2, unit="s"
    ),
    "hijack-suspected": Measure(
        "Hijack suspected", "share of the clients whose check says that the gradients are not of the task", percent=True
    ),
    "hijack-noticed-after": Measure(
        "Noticed after",
        "examples that a client had sent in the last round when its check first said so",
        False,
        places=0,
    ),
}

CONTROLS = {
    "mean": Control("mean image", "the average of the attacker's own data, the same guess for every victim"),
    "commonest": Control("commonest words", "those of the attacker's own texts, the same guess for every victim"),
    "background": Control("empty image", "an all-background picture for every victim"),
    "shuffled": Control("shuffled activations", "the attack, handed some other victim's activation", ""),
    "unplanted": Control("numbers never planted", "random numbers that no text held, by the same model", ""),
    "majority": Control("majority class", "always the attribute's commonest value"),
    "conditional-majority": Control(
        "majority given the task label", "the commonest value among inputs with the same task label"
    ),
    "permuted": Control("permuted labels", "the attack, trained on labels put in random order", ""),
    "ridge": Control("linear decoder (ridge)", "the best linear map from activation to input"),
    "nearest": Control("nearest neighbour", "the attacker's own input whose activation is nearest"),
    "untrained": Control("untrained encoder", "the same attack on an encoder with random weights"),
    "in-process": Control("tensors handed over", "the same attack given the tensors in process, without the wire"),
    "unbiased only": Control(
        "1/dFIL (unbiased only)",
        "1/dFIL, the error below which no unbiased attacker goes; unbiased only: learnt attackers know what inputs "
        "look like, are biased, and may go below",
    ),
    "gaussian inputs": Control(
        "van Trees bound (Gaussian inputs)",
        "the error below which no attacker at all goes, if inputs were Gaussian with the mean and covariance of the "
        "attacker's data; images are not Gaussian, so for them it is a guide only",
    ),
    "any two inputs": Control(
        "ReRo bound (any two inputs)",
        "reconstruction robustness: how often any attacker who guesses each message by itself can name the input among "
        "the victims', since any two activations are at most two clips apart",
    ),
    "clip ball": Control(
        "ReRo bound (clip ball)",
        "the same, since no activation is further than the clip from zero; tighter",
    ),
    "proved": Control("proved by the noise", "what clip and noise prove of one message"),
    "likeliest": Control("likeliest of all", "log2 of how many numbers there are: what the likeliest has"),
    "least exposed 5 %": Control("least exposed 5 %", "the value that 5 % of the victims stay below"),
    "most exposed 5 %": Control("most exposed 5 %", "the value that 5 % of the victims exceed"),
}

VANTAGES = {
    "link": "an eavesdropper on the link",
    "gateway": "an eavesdropper on the gateway",
    "server": "the server",
    "malicious-server": "a malicious server",
    "participant": "a participant",
    "malicious-participant": "a malicious participant",
    "release": "somebody who has the released model",
}

KINDS = {"sizes-and-times": "sizes and times"}


def measure(name: str) -> Measure:
    """How to read the measure called `name`; one that is not listed here says itself which way it leaks."""
    return MEASURES.get(_key(name)) or _foreign_measure(name)


@cache
def _foreign_measure(name: str) -> Measure:
    from wireleak.common.measures.scores import registry

    try:
        return Measure(name, name, registry.get(name).higher_leaks)
    except ValueError:
        return Measure(name, name)


def measure_order(name: str) -> tuple[int, str]:
    """Sort key that puts known measures first, in the order above."""
    return _order(name, list(MEASURES))


def control(name: str) -> Control:
    """How to read the control called `name`; an unknown one is its own label."""
    if (floats := _key(name).removeprefix("pca-")).isdecimal():
        return Control(
            f"PCA, {floats} numbers",
            f"the victim's own input, cut down to {floats} principal components of the attacker's inputs: the most "
            "that a linear code as wide as the wire could carry, and no attack",
            article="",
        )
    return CONTROLS.get(_key(name)) or Control(name, name)


def control_order(name: str) -> tuple[int, str]:
    """Sort key: the attack's own row, then controls in the order above, then unknown ones."""
    return _order(name, ["", *CONTROLS])


def _key(name: str) -> str:
    return name.replace("_", "-").lower()


def _order(name: str, known: list[str]) -> tuple[int, str]:
    key = _key(name)
    return (known.index(key) if key in known else len(known), key)


def size(number: float) -> str:
    """Bytes in the unit that reads best (decimal units)."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" or abs(value) >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float) -> str:
    """Seconds in the unit that reads best."""
    if math.isnan(seconds):
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
