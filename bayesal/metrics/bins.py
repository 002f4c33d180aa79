"""Confidence against accuracy, in bins: reliability diagrams and calibration errors."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bayesal import errors
from bayesal.metrics import _checked
from bayesal.types import ArrayLike


class Bins(NamedTuple):
    """A reliability diagram: per bin the mean confidence, the accuracy and how many points fell in
    it.

    weight: the sum of their weights: the count, if all weigh 1.
    noise:  variance of `accuracy - confidence` by the luck of which points and labels fell in: `s^2
      / n` of the points' own differences; 0 in a bin of one point, which says nothing about it.
    """

    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    count: Int[np.ndarray, " bins"]
    weight: Float[np.ndarray, " bins"]
    noise: Float[np.ndarray, " bins"]


def numbers_of_bins(confidence: Float[np.ndarray, " N"], bins: int) -> Int[np.ndarray, " N"]:
    """Equal-width bins (0, 1/b], (1/b, 2/b], ..., with 0 in the first.

    >>> numbers_of_bins(np.array([0.0, 0.5, 0.51, 1.0]), 2).tolist()
    [0, 0, 1, 1]
    """
    if isinstance(bins, bool) or not isinstance(bins, int | np.integer) or bins < 1:
        raise errors.WrongSize("bins", f"`bins` must be a positive int, got {bins!r}.")
    return np.clip(np.ceil(confidence * bins - 1e-5).astype(int) - 1, 0, bins - 1)


def _table(confidence, correct, weight, bins, equal_mass):
    which = numbers_of_bins(confidence, bins)
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
    noise = np.divide(squares, left, out=np.zeros(bins), where=left > 1e-12 * np.square(divisor))
    return Bins(conf, acc, np.bincount(which[weight > 0], minlength=bins), total, noise)


def reliability(
    log_probs: Float[ArrayLike, "N C"],
    labels: Int[ArrayLike, " N"],
    *,
    bins: int = 15,
    equal_mass: bool = False,
    weights: ArrayLike | None = None,
) -> Bins:
    """Confidence against accuracy of the predicted class, in bins of confidence.

    Equal-width bins are (0, 1/b], (1/b, 2/b], ... as in Guo et al. 2017, with confidence 0 in the
    first: 1.0 falls in the last bin. Equal-mass bins hold the same number of points (the same
      weight) to within one, in order of confidence; points of equal
    confidence are kept in one bin. An empty bin has count 0 and confidence and accuracy 0.
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
    std = np.sqrt(np.where(table.noise > 0, table.noise, 1.0))
    folded = std * math.sqrt(2 / math.pi) * np.exp(-0.5 * np.square(gap / std)) + gap * np.array(
        [math.erf(z) for z in gap / std / math.sqrt(2)]
    )
    return float(mass @ np.where(table.noise > 0, 2 * np.abs(gap) - folded, np.abs(gap)))


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

    By the luck of few labels a bin's gap g is never 0, so that a perfectly calibrated net has an
    error too, of about sqrt(bins / N). `debiased` takes away what that luck would add if the gap
    were as measured: E|g + s z| - |g| for a standard normal z and the bin's noise s. Where the true
    gap is above 2 s that is all there is; where it is 0, E|g| falls by 40 % (`squared_ece` has no
    bias at all). It may be negative.

    Args:
      log_probs: averaged log-probabilities.
      labels: the true classes.
      bins: how many bins of confidence.
      equal_mass: bins with equally many points instead of equally wide ones (fewer empty bins, less
        bias).
      debiased: less what luck adds.
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
    """Mean squared gap between confidence and accuracy over bins, without bias; in [-1, 1], and
    around 0 for a calibrated net.

    sum over bins of (points in the bin / N) * (g^2 - s^2): gap g, noise s^2 (see `Bins`). In each
    bin that is the mean of d_i d_j over pairs of different points with d = correct - confidence, so
    its mean is the square of the true gap, however few the points. A bin of one point has no pair,
    and keeps its g^2. Its root is comparable with `ece`, where it is not negative.

    References:
      Kumar et al. 2019, https://arxiv.org/abs/1909.10155; Ferro & Fricker 2012.

    >>> # 0.2 * -0.8
    >>> round(squared_ece(jnp.log(jnp.array([[0.8, 0.2], [0.8, 0.2]])), jnp.array([0, 1])), 4)
    -0.16
    """
    table = reliability(log_probs, labels, bins=bins, equal_mass=equal_mass, weights=weights)
    return float(
        table.weight
        @ (np.square(table.accuracy - table.confidence) - table.noise)
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
    """Calibration error of every class's probability, not only of the predicted one's; in [0, 1],
    but for `debiased`.

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
