"""Confidence against accuracy, in bins: reliability diagrams and calibration errors."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bayesal.metrics import _checked
from bayesal.types import ArrayLike


class Bins(NamedTuple):
    """A reliability diagram, bin by bin.

    confidence: mean confidence of the bin's points; 0 in an empty bin.
    accuracy: share of its points whose predicted class is the label; 0 in an empty bin.
    count:  number of its points of weight above 0.
    weight: sum of their weights: the count, if all weights are 1.
    sampling_variance: of `accuracy - confidence`: `s^2 / n` of the points' differences; 0 in a bin
      of one point.
    """

    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    count: Int[np.ndarray, " bins"]  # type: ignore[assignment]  # hides tuple.count
    weight: Float[np.ndarray, " bins"]
    sampling_variance: Float[np.ndarray, " bins"]


def _table(confidence, correct, weight, bins, equal_mass):
    which = _checked.bins_of(confidence, bins)
    if equal_mass:
        values, inverse = np.unique(confidence, return_inverse=True)
        mass = np.bincount(inverse.ravel(), weight, len(values))
        first = np.cumsum(mass) - mass  # where a group of equal confidences starts decides its bin
        which = np.minimum((first * bins / mass.sum() + 1e-9).astype(int), bins - 1)[
            inverse.ravel()
        ]
    total = np.bincount(which, weight, bins)
    divisor = np.where(total > 0, total, 1.0)
    mean = lambda values: np.bincount(which, weight * values, bins) / divisor
    conf, acc = mean(confidence), mean(correct)
    apart = correct - confidence - (acc - conf)[which]
    squares = np.bincount(which, np.square(weight * apart), bins)
    left = np.square(total) - np.bincount(
        which, np.square(weight), bins
    )  # n (n - 1), for weights of 1
    sampling_variance = np.divide(
        squares, left, out=np.zeros(bins), where=left > 1e-12 * np.square(divisor)
    )
    return Bins(conf, acc, np.bincount(which[weight > 0], minlength=bins), total, sampling_variance)


def reliability(
    log_probs: Float[ArrayLike, "N C"],
    labels: Int[ArrayLike, " N"],
    *,
    bins: int = 15,
    equal_mass: bool = False,
    weights: ArrayLike | None = None,
) -> Bins:
    """Confidence against accuracy of the predicted class, in bins of confidence.

    Equal-width bins are (0, 1/b], (1/b, 2/b], ... as in Guo et al. 2017; confidence 0 is in the
    first. Equal-mass bins hold the same weight in order of confidence, to within one point; points
    of equal confidence share a bin.

    Args:
      log_probs: averaged log-probabilities.
      labels: the true classes.
      bins: number of bins, at most 1,000,000.
      equal_mass: whether bins have equal mass instead of equal width.
      weights: how many points each stands for.

    >>> found = reliability(jnp.log(jnp.array([[0.8, 0.2], [0.8, 0.2]])), jnp.array([0, 1]), bins=2)
    >>> found.confidence.round(4).tolist(), found.accuracy.tolist(), found.count.tolist()
    ([0.0, 0.8], [0.0, 0.5], [0, 2])
    """
    log_probs, labels, weights = _checked.classes(log_probs, labels, weights)
    host = np.asarray(log_probs, dtype=np.float64)
    correct = (host.argmax(axis=1) == np.asarray(labels)).astype(np.float64)
    return _table(
        np.exp(host.max(axis=1)), correct, np.asarray(weights, np.float64), bins, equal_mass
    )


def _error(table, debiased):
    gap, mass = table.accuracy - table.confidence, table.weight / table.weight.sum()
    if not debiased:
        return float(mass @ np.abs(gap))
    std = np.sqrt(np.where(table.sampling_variance > 0, table.sampling_variance, 1.0))
    folded = std * math.sqrt(2 / math.pi) * np.exp(-0.5 * np.square(gap / std)) + gap * np.array(
        [math.erf(z) for z in gap / std / math.sqrt(2)]
    )
    return float(
        mass @ np.where(table.sampling_variance > 0, 2 * np.abs(gap) - folded, np.abs(gap))
    )


def ece(
    log_probs: Float[ArrayLike, "N C"],
    labels: Int[ArrayLike, " N"],
    *,
    bins: int = 15,
    equal_mass: bool = False,
    debiased: bool = False,
    weights: ArrayLike | None = None,
) -> float:
    """Expected calibration error of the predicted class; in [0, 1].

    sum over bins of (points in the bin / N) * |accuracy - mean confidence|.

    Sampling noise makes the gap g of every bin positive: a perfectly calibrated net has an ECE of
    about sqrt(bins / N). `debiased` subtracts the bias E|g + s z| - |g|, for a standard normal z
    and the bin's noise s. That removes the bias where the true gap is above 2 s, and 40 % of it
    where the true gap is 0 (`squared_ece` is unbiased). The result may be negative.

    Args:
      log_probs: averaged log-probabilities.
      labels: the true classes.
      bins: number of bins of confidence, at most 1,000,000.
      equal_mass: bins of equal mass instead of equal width (fewer empty bins, less bias).
      debiased: whether the bias by sampling noise is subtracted.
      weights: how many points each stands for.
    References:
      Naeini et al. 2015; Guo et al. 2017, https://arxiv.org/abs/1706.04599; equal mass: Nixon et
      al. 2019; debiased: Kumar et al. 2019, https://arxiv.org/abs/1909.10155, appendix, here in
      closed form.

    >>> # 80 % sure, 50 % right
    >>> round(ece(jnp.log(jnp.array([[0.8, 0.2], [0.8, 0.2]])), jnp.array([0, 1])), 4)
    0.3
    """
    return _error(
        reliability(log_probs, labels, bins=bins, equal_mass=equal_mass, weights=weights), debiased
    )


def squared_ece(
    log_probs: Float[ArrayLike, "N C"],
    labels: Int[ArrayLike, " N"],
    *,
    bins: int = 15,
    equal_mass: bool = False,
    weights: ArrayLike | None = None,
) -> float:
    """Unbiased mean squared gap between confidence and accuracy over bins; in [-1, 1].

    sum over bins of (points in the bin / N) * (g^2 - s^2), gap g and noise s^2 (see `Bins`); its
    expectation is 0 for a calibrated net. In each bin this is the mean of d_i d_j over pairs of
    different points with d = correct - confidence: an unbiased estimate of the true gap's square. A
    bin of one point has no pair and keeps its g^2. The root is comparable with `ece`.

    References:
      Kumar et al. 2019, https://arxiv.org/abs/1909.10155; Ferro & Fricker 2012.

    >>> # 0.2 * -0.8
    >>> round(squared_ece(jnp.log(jnp.array([[0.8, 0.2], [0.8, 0.2]])), jnp.array([0, 1])), 4)
    -0.16
    """
    table = reliability(log_probs, labels, bins=bins, equal_mass=equal_mass, weights=weights)
    return float(
        table.weight
        @ (np.square(table.accuracy - table.confidence) - table.sampling_variance)
        / table.weight.sum()
    )


def classwise_ece(
    log_probs: Float[ArrayLike, "N C"],
    labels: Int[ArrayLike, " N"],
    *,
    bins: int = 15,
    equal_mass: bool = False,
    debiased: bool = False,
    weights: ArrayLike | None = None,
) -> float:
    """Expected calibration error of every class's probability; in [0, 1] unless `debiased`.

    mean over classes c of sum over bins of (points in the bin / N) * |share of label c - mean
    p(c)|; every point is in a bin of every class.

    Args:
      log_probs, labels, bins, equal_mass, debiased, weights: as of `ece`.
    References:
      Kull et al. 2019, https://arxiv.org/abs/1910.12656

    >>> round(classwise_ece(jnp.log(jnp.array([[0.8, 0.2], [0.8, 0.2]])), jnp.array([0, 1])), 4)
    0.3
    """
    log_probs, labels, weights = (
        np.asarray(a) for a in _checked.classes(log_probs, labels, weights)
    )
    probs, weight = np.exp(log_probs.astype(np.float64)), weights.astype(np.float64)
    each = [
        _error(_table(p, (labels == c).astype(np.float64), weight, bins, equal_mass), debiased)
        for c, p in enumerate(probs.T)
    ]
    return float(np.mean(each))
