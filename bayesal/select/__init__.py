"""Selectors: arrays in, `Selection` out. Indices are rows of what was passed in, best first.

A key is a typed JAX key or an int, as everywhere in bayesal. A `Selection` is a NamedTuple of
arrays: iterating over it gives its fields, and the rows are `selection.indices`.
"""

from bayesal.select._badge import badge
from bayesal.select._bait import bait
from bayesal.select._batch_bald import batch_bald
from bayesal.select._batch_epig import batch_epig
from bayesal.select._batch_epig_gaussian import batch_epig_gaussian
from bayesal.select._clusters import k_means, k_means_pp
from bayesal.select._constrained import budgeted, class_balanced, suppress_duplicates
from bayesal.select._dpp import dpp, log_det_gaussian
from bayesal.select._k_center import k_center
from bayesal.select._stochastic import power, softmax, softrank
from bayesal.select._top_scores import top, uniform
from bayesal.select._typiclust import typiclust

__all__ = [
    "badge",
    "bait",
    "batch_bald",
    "batch_epig",
    "batch_epig_gaussian",
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


def __dir__() -> list[str]:
    return __all__
