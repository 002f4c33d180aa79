"""Selectors: arrays in, `Selection` out. Indices are rows of what was passed in, best first."""

from bayesal.select.batch_bald import batch_bald
from bayesal.select.combine import pareto, product, rank_sum, z_score
from bayesal.select.constrained import class_balanced, per_cost, suppress_duplicates
from bayesal.select.ranked import top, uniform
from bayesal.select.stochastic import power, softmax, softrank

__all__ = [
    "batch_bald", "class_balanced", "pareto", "per_cost", "power", "product", "rank_sum", "softmax", "softrank", "suppress_duplicates", "top",
    "uniform", "z_score",
]
