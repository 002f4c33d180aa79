"""Strategies: bind a predictive, stream the pool, select. `strategy(key, predictive, x, available,
size) -> Selection`.

Pure functions for use under jit (the learner does); indices are rows of the pool `x`.
"""

from bayesal.acquire.combined import combined
from bayesal.acquire.geometry import (
    badge,
    bait,
    dpp,
    k_center,
    k_means,
    k_means_pp,
    typiclust,
)
from bayesal.acquire.ranked import pool_scores, top, uniform
from bayesal.acquire.regression import log_det_gaussian
from bayesal.acquire.screened import batch_bald, prefilter
from bayesal.acquire.stochastic import power, softmax, softrank
from bayesal.acquire.targeted import batch_epig, epig

__all__ = [
    "badge",
    "bait",
    "batch_bald",
    "batch_epig",
    "combined",
    "dpp",
    "epig",
    "k_center",
    "k_means",
    "k_means_pp",
    "log_det_gaussian",
    "pool_scores",
    "power",
    "prefilter",
    "softmax",
    "softrank",
    "top",
    "typiclust",
    "uniform",
]
