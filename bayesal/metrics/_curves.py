"""Learning curves: a value after each number of labels, and means over seeds."""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

from bayesal import _checks, errors
from bayesal.types import ArrayLike

ROUNDING = 1e-6  # of a level, relative: values are float32, and float32(0.9) is below 0.9


def _curve(counts: Any, values: Any) -> tuple[np.ndarray, np.ndarray]:
    counts, values = (
        np.asarray(_checks.plain(a, name), dtype=np.float64)
        for a, name in ((counts, "counts"), (values, "values"))
    )
    if counts.ndim != 1 or counts.shape != values.shape or len(counts) == 0:
        raise errors.WrongShape(
            "values",
            f"`counts` and `values` must be two vectors of one length; got {counts.shape} "
            f"and {values.shape}.",
        )
    for array, name in ((counts, "counts"), (values, "values")):
        if len(bad := np.flatnonzero(np.isnan(array))):
            raise errors.NonFinite(
                name, f"`{name}` is NaN at positions {_checks.listed(bad)}.", bad
            )
    if (np.diff(counts) <= 0).any():
        raise errors.WrongShape(
            "counts", "`counts` must be strictly increasing: the number of labels after each round."
        )
    return counts, values


def area_under_curve(counts: ArrayLike, values: ArrayLike) -> float:
    """Mean height of a learning curve: its trapezoid area divided by the range of labels.

    The unit is the value's. A curve of one point has its value.

    >>> round(area_under_curve(np.array([20, 30, 40]), np.array([0.5, 0.7, 0.9])), 6)
    0.7
    """
    counts, values = _curve(counts, values)
    if len(counts) == 1:
        return float(values[0])
    area = np.sum(np.diff(counts) * (values[1:] + values[:-1]) / 2)
    return float(area / (counts[-1] - counts[0]))


def labels_needed(counts: ArrayLike, values: ArrayLike, level: float) -> float:
    """The first number of labels at which a learning curve reaches `level`; inf if it never does.

    Args:
      counts: numbers of labels, increasing.
      values: the curve's value at each, higher is better.
      level: a finite number. Values within 1e-6 of it, relative, reach it: an accuracy of 9 in 10
        is 0.9 although float32(0.9) is below 0.9.

    >>> labels_needed(np.array([20, 30, 40]), np.array([0.5, 0.9, 0.8], np.float32), 0.9)
    30.0
    """
    counts, values = _curve(counts, values)
    if isinstance(level, bool) or not math.isfinite(level):
        raise errors.OutOfRange("level", f"`level` must be a finite number, got {level!r}.")
    reached = np.flatnonzero(values >= level - ROUNDING * abs(level))
    return float(counts[reached[0]]) if len(reached) else math.inf


# Lower is better. A name may end in `_before`: before calibration.
LOSSES = {
    "nll",
    "ece",
    "density_nll",
    "brier",
    "crps",
    "squared_ece",
    "classwise_ece",
    "rmse",
    "joint_nll",
}


def lower_is_better(metric: str) -> bool:
    """Whether a metric is a loss, by its name; those of one's own are not.

    >>> lower_is_better("nll_before"), lower_is_better("accuracy")
    (True, False)
    """
    return metric.removesuffix("_before") in LOSSES


def needed_by_seed(
    counts: np.ndarray, curves: Float[np.ndarray, "S R"], level: float, lower: bool
) -> Float[np.ndarray, " S"]:
    """`labels_needed` of each seed; a loss (`lower`) reaches the level from above.

    inf: never; NaN: nothing is known of the seed.

    >>> losses = np.array([[2.0, 1.0], [3.0, 2.0], [np.nan, np.nan]])
    >>> needed_by_seed(np.array([10, 20]), losses, 1.5, lower=True).tolist()
    [20.0, inf, nan]
    """
    sign = -1.0 if lower else 1.0

    def needed(row):
        there = ~np.isnan(row)
        if not there.any():
            return np.nan
        return labels_needed(counts[there], sign * row[there], sign * level)

    return np.array([needed(row) for row in curves])


def middle_seed(needed: Float[np.ndarray, " S"]) -> float:
    """The median as an order statistic, without NaN: no mean of a number and inf.

    >>> middle_seed(np.array([20.0, np.inf, np.nan]))
    20.0
    """
    found = needed[~np.isnan(needed)]
    return float(np.quantile(found, 0.5, method="inverted_cdf")) if len(found) else math.nan


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval: numbers, or arrays of one shape."""

    mean: Any
    low: Any
    high: Any


def mean_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Mean over axis 0 and its confidence interval by Student's t, in the values' unit.

    For paired differences: one difference per seed. `mean -+ t(S - 1) * std / sqrt(S)` over the S
    values that are not NaN; the interval is exact where they are normal. One value has the interval
    (-inf, inf), none is NaN throughout.

    Args:
      values: `[S]` or `[S, ...]`, S independent values such as seeds; NaN is left out.
      level: the share of intervals that hold the true mean, in (0, 1).

    >>> found = mean_interval(np.array([1.0, 2.0, 3.0]))
    >>> [round(float(v), 3) for v in found]
    [2.0, -0.484, 4.484]
    """
    if not 0 < level < 1:
        raise errors.OutOfRange("level", f"`level` must lie in (0, 1), got {level!r}.")
    host = np.asarray(_checks.plain(values, "values"), np.float64)
    if host.ndim == 0 or host.shape[0] == 0:
        raise errors.WrongShape(
            "values", f"`values` must be [S, ...] with S >= 1 values, got shape {host.shape}."
        )
    there = ~np.isnan(host)
    count = there.sum(axis=0)
    total = np.where(there, host, 0.0).sum(axis=0)
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    squares = np.where(there, np.square(host - mean), 0.0).sum(axis=0)
    free = np.maximum(count - 1, 1)
    half = special.stdtrit(free, 0.5 + level / 2) * np.sqrt(squares / free / np.maximum(count, 1))
    half = np.where(count > 1, half, np.where(count == 1, np.inf, np.nan))
    return Interval(mean=mean[()], low=mean - half, high=mean + half)
