"""Acquisition scores: log-probabilities `[K, *B, C]` of K draws in, one number per point `[*B]`
out; higher = more worth labeling.
"""

from bayesal.scores import combine, foreign, multilabel, probit, regression
from bayesal.scores._classification import (
    bald,
    decompose,
    entropy,
    expected_entropy,
    least_confidence,
    margin,
    mean_std,
    variation_ratio,
)
from bayesal.scores._committee import expected_model_change, vote_entropy
from bayesal.scores._epig import epig, target_weights
from bayesal.scores._neighbors import density, information_density, neighbor_error
from bayesal.scores._structured import reduce, structured

__all__ = [
    "bald",
    "combine",
    "decompose",
    "density",
    "entropy",
    "epig",
    "expected_entropy",
    "expected_model_change",
    "foreign",
    "information_density",
    "least_confidence",
    "margin",
    "mean_std",
    "multilabel",
    "neighbor_error",
    "probit",
    "reduce",
    "regression",
    "structured",
    "target_weights",
    "variation_ratio",
    "vote_entropy",
]


def __dir__() -> list[str]:
    return __all__
