"""Measures of leakage, each with its confidence interval, and their baselines."""

from wireleak.common.measures.quantities.quantity import PERCENT, Quantity
from wireleak.common.measures.scores.measure import Measure, register
from wireleak.common.measures.scores.priors import (
    conditional_majority,
    conditional_probabilities,
    linear_code,
    majority,
)
from wireleak.common.measures.scores.registry import (
    column_order,
    get,
    names,
    quantity,
    score_attribute,
    score_reconstruction,
)
from wireleak.common.measures.statistics.bootstrap import combine_seeds
from wireleak.common.measures.statistics.score import Score

__all__ = [
    "PERCENT",
    "Measure",
    "Quantity",
    "Score",
    "column_order",
    "combine_seeds",
    "conditional_majority",
    "conditional_probabilities",
    "get",
    "linear_code",
    "majority",
    "names",
    "quantity",
    "register",
    "score_attribute",
    "score_reconstruction",
]
