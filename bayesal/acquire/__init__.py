"""Strategies: what to ask next. Each is a pair, `measure` a chunk and `pick` from what was
measured.

A strategy runs on every pool of `bayesal.pools`, through `bayesal.choose` and in a learner.
"""

from bayesal.acquire._epig import batch_epig, epig
from bayesal.acquire._features import (
    badge,
    bait,
    dpp,
    drop_query,
    k_center,
    k_means,
    k_means_pp,
    typiclust,
)
from bayesal.acquire._joint import batch_bald, log_det_gaussian
from bayesal.acquire._names import named
from bayesal.acquire._prefilter import prefilter
from bayesal.acquire._ranking import combined, top, uniform
from bayesal.acquire._sampling import power, softmax, softrank

__all__ = [
    "badge",
    "bait",
    "batch_bald",
    "batch_epig",
    "combined",
    "dpp",
    "drop_query",
    "epig",
    "k_center",
    "k_means",
    "k_means_pp",
    "log_det_gaussian",
    "named",
    "power",
    "prefilter",
    "softmax",
    "softrank",
    "top",
    "typiclust",
    "uniform",
]


def __dir__() -> list[str]:
    return __all__
