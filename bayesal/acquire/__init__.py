"""Strategies: what to ask next. Each is a pair, `measure` a chunk and `pick` from what was
measured.

A strategy runs on every pool of `bayesal.pools`, through `bayesal.choose` and in a learner.
"""

from bayesal.acquire.epig import batch_epig, epig
from bayesal.acquire.features import badge, bait, dpp, k_center, k_means, k_means_pp, typiclust
from bayesal.acquire.joint import batch_bald, log_det_gaussian
from bayesal.acquire.prefilter import prefilter
from bayesal.acquire.ranking import combined, top, uniform
from bayesal.acquire.sampling import power, softmax, softrank

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
    "power",
    "prefilter",
    "softmax",
    "softrank",
    "top",
    "typiclust",
    "uniform",
]
