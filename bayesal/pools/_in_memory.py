"""Pools in memory."""

from typing import Any

from bayesal.pools import _rows, _walk
from bayesal.types import Pool


def array(x: Any) -> Pool:
    """A pool in memory: an array `[N, ...]` with one example per row.

    Measured in chunks of 1,024 rows inside one compiled program, so memory beyond the pool and the
    measurements is that of one chunk.

    Args:
      x: numbers, one example per row.
    Raises:
      WrongShape: not an array of numbers with a row per example. WrongSize: no rows.
      OutOfRange: 64-bit whole numbers that JAX would change. WrongType: masked entries.

    >>> array(np.zeros((5, 3), np.float32)).rows
    5
    """
    return _walk.in_memory(_rows.whole(x))
