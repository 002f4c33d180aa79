"""Selectors: arrays in, `Selection` out. Indices are rows of what was passed in, best first."""

from bayesal.select.badge import badge
from bayesal.select.bait import bait
from bayesal.select.batch_bald import batch_bald
from bayesal.select.batch_epig import batch_epig
from bayesal.select.clusters import k_means, k_means_pp
from bayesal.select.constrained import budgeted, class_balanced, suppress_duplicates
from bayesal.select.dpp import dpp, log_det_gaussian
from bayesal.select.k_center import k_center
from bayesal.select.stochastic import power, softmax, softrank
from bayesal.select.top_scores import top, uniform
from bayesal.select.typiclust import typiclust

__all__ = [
    "badge",
    "bait",
    "batch_bald",
    "batch_epig",
    "budgeted",
    "class_balanced",
    "dpp",
    "k_center",
    "k_means",
    "k_means_pp",
    "log_det_gaussian",
    "power",
    "softmax",
    "softrank",
    "suppress_duplicates",
    "top",
    "typiclust",
    "uniform",
]
