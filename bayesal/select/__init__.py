"""Selectors: arrays in, `Selection` out. Indices are rows of what was passed in, best first."""

from bayesal.select.batch_bald import batch_bald
from bayesal.select.ranked import top, uniform

__all__ = ["batch_bald", "top", "uniform"]
