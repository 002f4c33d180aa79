"""Whole runs: a value after each number of labels."""

import numpy as np

from bayesal import _checks, errors
from bayesal.types import ArrayLike


def _curve(counts, values):
    counts, values = np.asarray(counts, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if counts.ndim != 1 or counts.shape != values.shape or len(counts) == 0:
        raise errors.WrongShape(
            "values",
            f"`counts` and `values` must be two vectors of one length; got {counts.shape} "
            f"and {values.shape}.",
        )
    if np.isnan(values).any():
        raise errors.NonFinite(
            "values",
            f"`values` is NaN at positions {_checks.listed(np.flatnonzero(np.isnan(values)))}.",
            np.flatnonzero(np.isnan(values)),
        )
    if (np.diff(counts) <= 0).any():
        raise errors.WrongShape(
            "counts", "`counts` must be strictly increasing: the number of labels after each round."
        )
    return counts, values


def area_under_curve(counts: ArrayLike, values: ArrayLike) -> float:
    """Mean height of a learning curve: the trapezoid area under (labels, value), divided by the
    range of labels.

    The unit is the value's. One point gives its value.

    >>> round(area_under_curve(np.array([20, 30, 40]), np.array([0.5, 0.7, 0.9])), 6)
    0.7
    """
    counts, values = _curve(counts, values)
    if len(counts) == 1:
        return float(values[0])
    area = np.sum(np.diff(counts) * (values[1:] + values[:-1]) / 2)
    return float(area / (counts[-1] - counts[0]))


def labels_needed(counts: ArrayLike, values: ArrayLike, level: float) -> float:
    """The first number of labels at which the curve is at `level` or above; inf if it never is.

    >>> labels_needed(np.array([20, 30, 40]), np.array([0.5, 0.9, 0.8]), 0.85)
    30.0
    """
    counts, values = _curve(counts, values)
    reached = np.flatnonzero(values >= level)
    return float(counts[reached[0]]) if len(reached) else float("inf")
