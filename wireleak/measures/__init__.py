"""Measures of leakage, each with its interval, and the controls that stand beside them."""

from wireleak.measures.bootstrap import combine_seeds
from wireleak.measures.controls import conditional_majority, conditional_probabilities, linear_code, majority
from wireleak.measures.registry import get, names, score_attribute, score_reconstruction
from wireleak.measures.score import Measure, Score, register

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
