"""Whether draws repeat: the one comparison of `Predictive.checked` and of `testing`."""

import math
from typing import Any

import jax
import numpy as np

from bayesal.likelihoods import moments
from bayesal.types import Gaussian, Mixture

SAME = 1e-3  # the largest difference (`apart`) of two predictions of one draw at one point


def other_order(rows: int) -> np.ndarray:
    """Row order for a consistency check: the first half of the rows, each twice, in reverse.

    Predicting these rows again exposes per-row dropout masks and batch-dependent statistics.

    >>> other_order(5).tolist()
    [2, 1, 1, 0, 0]
    """
    return np.arange(rows)[::-1] // 2


def apart(first: Any, second: Any) -> float:
    """Largest difference of two predictions: in probability, or in standard deviations.

    Predictions of unequal shapes are infinitely far apart.

    >>> round(apart(jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.4, 0.6]))), 3)
    0.1
    """
    if jax.tree.map(np.shape, first) != jax.tree.map(np.shape, second):
        return math.inf
    if not isinstance(first, Gaussian | Mixture):
        return float(
            np.max(np.abs(np.exp(np.asarray(first)) - np.exp(np.asarray(second))), initial=0.0)
        )
    (mean, variance), (other, others) = (
        map(np.asarray, moments(prediction)) for prediction in (first, second)
    )
    return float(
        np.max(
            np.maximum(np.abs(mean - other) / np.sqrt(variance), np.abs(others / variance - 1.0)),
            initial=0.0,
        )
    )
