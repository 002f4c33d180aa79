"""Selectors: arrays in, `Selection` out. Indices are rows of what was passed in, best first."""

from bayesal.select.badge import badge
from bayesal.select.bait import bait, fisher_factors
from bayesal.select.batch_bald import batch_bald
from bayesal.select.batch_epig import batch_epig
from bayesal.select.clusters import k_means, k_means_pp
from bayesal.select.combine import pareto, product, rank_sum, z_score
from bayesal.select.constrained import class_balanced, per_cost, suppress_duplicates
from bayesal.select.determinant import determinant, log_det_gaussian
from bayesal.select.k_center import k_center
from bayesal.select.ranked import top, uniform
from bayesal.select.stochastic import power, softmax, softrank
from bayesal.select.typiclust import typiclust

__all__ = [
    "badge",
    "bait",
    "batch_bald",
    "batch_epig",
    "class_balanced",
    "determinant",
    "fisher_factors",
    "k_center",
    "k_means",
    "k_means_pp",
    "log_det_gaussian",
    "pareto",
    "per_cost",
    "power",
    "product",
    "rank_sum",
    "softmax",
    "softrank",
    "suppress_duplicates",
    "top",
    "typiclust",
    "uniform",
    "z_score",
]
