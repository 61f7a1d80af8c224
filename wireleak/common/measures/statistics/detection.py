"""How well a server's comparison of updates tells a malicious participant from honest ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

# With two participants norms and cosines mirror each other, and outlier scores are equal.
_FEWEST = 3
_Compared = Mapping[str, Mapping[str, float]]


def detection_aucs(rounds: Sequence[_Compared], malicious: Collection[str]) -> dict[str, float]:
    """AUC of each suspicion over all pairs of participant and round: the malicious one's against all others'.

    A norm is suspicious if it is far from the others' in either direction, a cosine if it is low, an outlier score if
    it is a large share of its round's sum (updates shrink as a training converges).

    Parameters
    ----------
    rounds : sequence of mapping
        Of each round and node: "norm-ratio", "cosine" and, except in old histories, "outlier". Rounds with fewer than
        three nodes are left out.
    malicious : collection of str
        The nodes of the malicious participant.

    Returns
    -------
    dict of str to float
        By "norm", "cosine" and "spectral": .5 is chance, 1 is certain detection, ties count half. Empty where rounds
        or a kind of participant are missing. Rounds of one training are not independent: repeat it for an interval.
    """
    # Here, because the server that writes histories needs no statistics.
    from scipy.stats import mannwhitneyu

    enough = [compared for compared in rounds if len(compared) >= _FEWEST]
    guilty = np.array([node in malicious for compared in enough for node in compared], bool)
    if guilty.all() or not guilty.any():
        return {}
    suspicions = [_suspicions(compared) for compared in enough]
    found = {}
    for name in (name for name in suspicions[0] if all(name in each for each in suspicions)):
        scores = np.concatenate([each[name] for each in suspicions])
        pairs = guilty.sum() * (~guilty).sum()
        found[name] = float(mannwhitneyu(scores[guilty], scores[~guilty], method="asymptotic").statistic / pairs)
    return found


def _suspicions(compared: _Compared) -> dict[str, np.ndarray]:
    """Return how suspicious each node of one round is, by detector."""
    figures = {name: np.array([one[name] for one in compared.values()]) for name in next(iter(compared.values()))}
    with np.errstate(divide="ignore"):
        suspicious = {"norm": np.abs(np.log(figures["norm-ratio"])), "cosine": -figures["cosine"]}
    if "outlier" in figures:
        suspicious["spectral"] = figures["outlier"] / (figures["outlier"].sum() or 1.0)
    return suspicious
