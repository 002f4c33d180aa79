"""Acquisition scores: log-probabilities `[K, *B, C]` of K draws in, one number per point `[*B]`
out; higher = more worth labeling.
"""

from bayesal.scores import bernoulli, probit
from bayesal.scores.classification import (
    Uncertainty,
    bald,
    decompose,
    entropy,
    expected_entropy,
    least_confidence,
    margin,
    mean_std,
    variation_ratio,
)
from bayesal.scores.committee import consensus_kl, expected_model_change, vote_entropy
from bayesal.scores.epig import epig, target_weights
from bayesal.scores.neighbors import density, neighbor_error, weighted
from bayesal.scores.structured import reduce, structured

__all__ = [
    "Uncertainty",
    "bald",
    "bernoulli",
    "consensus_kl",
    "decompose",
    "density",
    "entropy",
    "epig",
    "expected_entropy",
    "expected_model_change",
    "least_confidence",
    "margin",
    "mean_std",
    "neighbor_error",
    "probit",
    "reduce",
    "structured",
    "target_weights",
    "variation_ratio",
    "vote_entropy",
    "weighted",
]
