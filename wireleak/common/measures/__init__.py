"""Measures of leakage, each with its interval, and the controls that stand beside them."""

from wireleak.common.measures.scores.controls import (
    conditional_majority,
    conditional_probabilities,
    linear_code,
    majority,
)
from wireleak.common.measures.scores.registry import get, names, score_attribute, score_reconstruction
from wireleak.common.measures.scores.score import Measure, Score, register
from wireleak.common.measures.statistics.bootstrap import combine_seeds

__all__ = [
    "Measure",
    "Score",
    "combine_seeds",
    "conditional_majority",
    "conditional_probabilities",
    "get",
    "linear_code",
    "majority",
    "names",
    "register",
    "score_attribute",
    "score_reconstruction",
]
