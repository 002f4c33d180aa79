"""Selectors: arrays in, `Selection` out. Indices are rows of what was passed in, best first."""

from bayesal.select.batch_bald import batch_bald
from bayesal.select.ranked import top, uniform
from bayesal.select.stochastic import power, softmax, softrank

__all__ = ["batch_bald", "power", "softmax", "softrank", "top", "uniform"]
