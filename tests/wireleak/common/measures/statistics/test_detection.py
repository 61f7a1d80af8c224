"""Detection of a malicious participant, against scikit-learn and against cases that can be computed by hand."""

import json
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from wireleak.common.measures.statistics.detection import detection_aucs


def compared(rng: np.random.Generator, nodes: int = 4, shift: float = 0.0) -> dict[str, dict[str, float]]:
    """One round; node 0 is the malicious one, and differs by `shift`."""
    return {
        str(node): {
            "norm-ratio": float(np.exp(rng.normal(0, 0.3) - shift * (node == 0))),
            "cosine": float(rng.uniform(-0.5, 0.5) - shift / 2 * (node == 0)),
            "outlier": float(rng.exponential() + shift * (node == 0)),
        }
        for node in range(nodes)
    }


def test_scikit_learn_finds_the_same_areas() -> None:
    rng = np.random.default_rng(0)
    rounds = [compared(rng, shift=0.4) for _ in range(30)]
    found = detection_aucs(rounds, {"0"})
    truth = [node == "0" for one in rounds for node in one]
    values: Any = [list(figures.values()) for one in rounds for figures in one.values()]
    ratios, cosines, outliers = np.array(values).T
    shares = outliers / np.repeat(outliers.reshape(30, 4).sum(1), 4)
    assert found == pytest.approx(
        {
            "norm": roc_auc_score(truth, np.abs(np.log(ratios))),
            "cosine": roc_auc_score(truth, -cosines),
            "spectral": roc_auc_score(truth, shares),
        }
    )
    assert min(found.values()) > 0.6


def test_an_honest_client_0_is_found_by_chance() -> None:
    rng = np.random.default_rng(1)
    found = detection_aucs([compared(rng) for _ in range(2000)], {"0"})
    assert found == pytest.approx({"norm": 0.5, "cosine": 0.5, "spectral": 0.5}, abs=0.03)


@pytest.mark.parametrize("ratio", [0.0, 0.2, 5.0, float("inf")])
def test_a_norm_is_suspicious_in_either_direction(ratio: float) -> None:
    rounds = [compared(np.random.default_rng(2))]
    for node, figures in rounds[0].items():
        figures["norm-ratio"] = ratio if node == "0" else 1.0
    assert detection_aucs(json.loads(json.dumps(rounds)), {"0"})["norm"] == 1


def test_outlier_scores_of_rounds_with_other_scales_are_comparable() -> None:
    """The malicious one has half of each round's sum, the others the rest; the second round is a thousandth as long."""
    rounds = [compared(np.random.default_rng(3)) for _ in range(2)]
    for scale, one in zip((1.0, 1e-6), rounds, strict=True):
        for node, figures in one.items():
            figures["outlier"] = scale * (3.0 if node == "0" else 1.0)
    assert detection_aucs(rounds, {"0"})["spectral"] == 1


def test_ties_count_half_and_updates_that_are_all_equal_are_not_told_apart() -> None:
    same = {str(node): {"norm-ratio": 1.0, "cosine": 1.0, "outlier": 0.0} for node in range(3)}
    assert detection_aucs([same], {"0"}) == {"norm": 0.5, "cosine": 0.5, "spectral": 0.5}


def test_histories_without_outlier_scores_have_the_other_two() -> None:
    rounds = [compared(np.random.default_rng(4))]
    for figures in rounds[0].values():
        del figures["outlier"]
    assert set(detection_aucs(rounds, {"0"})) == {"norm", "cosine"}


def test_a_resumed_history_that_lacks_some_outlier_scores_has_the_other_two() -> None:
    rounds = [compared(np.random.default_rng(5)) for _ in range(2)]
    for figures in rounds[0].values():
        del figures["outlier"]
    assert set(detection_aucs(rounds, {"0"})) == set(detection_aucs(rounds[::-1], {"0"})) == {"norm", "cosine"}


@pytest.mark.parametrize(("nodes", "malicious"), [(2, "0"), (4, "9"), (4, "0123"), (0, "0")])
def test_nothing_is_reported_where_there_is_nothing_to_tell_apart(nodes: int, malicious: str) -> None:
    assert detection_aucs([compared(np.random.default_rng(6), nodes)], set(malicious)) == {}
    assert detection_aucs([], set(malicious)) == {}
