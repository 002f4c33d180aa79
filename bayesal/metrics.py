"""How good predictions and whole runs are. Predictions are averaged log-probabilities `[N, C]`, labels int `[N]`.

Losses are means over points: lower is better. Probabilities have no unit, likelihoods are in nats.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from bayesal import checks, maths, predictions
from bayesal.types import ArrayLike, Gaussian, Mixture


def _checked(log_probs, labels):
    log_probs = checks.log_probs(log_probs, draws=False, ndim=2)
    if checks.concrete(labels):
        labels = checks.labels(labels, log_probs.shape[1], log_probs.shape[0])
        if len(labels) == 0:
            raise checks.WrongSize("labels", "`labels` is empty: a mean over no points is not a number. Pass at least one point.")
    return log_probs, jnp.asarray(labels)


def accuracy(log_probs: Float[ArrayLike, "N C"], labels: Int[ArrayLike, " N"]) -> Float[Array, ""]:
    """Share of points whose most probable class is the label; in [0, 1].

    >>> accuracy(jnp.log(jnp.array([[0.9, 0.1], [0.4, 0.6]])), jnp.array([0, 0]))
    Array(0.5, dtype=float32)
    """
    log_probs, labels = _checked(log_probs, labels)
    return jnp.mean(jnp.argmax(log_probs, axis=-1) == labels, dtype=jnp.float32)


def nll(log_probs: Float[ArrayLike, "N C"], labels: Int[ArrayLike, " N"]) -> Float[Array, ""]:
    """Mean negative log-likelihood of the labels, in nats; in [0, inf]. inf if a label was ruled out.

    >>> nll(jnp.log(jnp.array([[0.5, 0.5]])), jnp.array([0])).round(4)
    Array(0.6931, dtype=float32)
    """
    log_probs, labels = _checked(log_probs, labels)
    return -maths.tree_sum(jnp.take_along_axis(log_probs, labels[:, None], axis=1)[:, 0], axis=0) / labels.shape[0]


def brier(log_probs: Float[ArrayLike, "N C"], labels: Int[ArrayLike, " N"]) -> Float[Array, ""]:
    """Mean squared distance between the predicted and the one-hot distribution, summed over classes; in [0, 2].

    Brier 1950, in its original multi-class form.

    >>> brier(jnp.log(jnp.array([[0.5, 0.5]])), jnp.array([0]))
    Array(0.5, dtype=float32)
    """
    log_probs, labels = _checked(log_probs, labels)
    error = jnp.exp(log_probs) - jax.nn.one_hot(labels, log_probs.shape[1])
    return maths.tree_sum(jnp.mean(jnp.square(error), axis=0), axis=0)


def _checked_real(prediction, y):
    if not isinstance(prediction, Gaussian | Mixture):
        raise checks.WrongType("prediction", f"`prediction` must be a Gaussian or a Mixture, as `predictive.mean(x)` gives for real labels; got {type(prediction).__name__}.")
    if checks.concrete(y):
        y = checks.real_labels(y, predictions.moments(prediction).mean.shape[-1], "y")
        if len(y) == 0:
            raise checks.WrongSize("y", "`y` is empty: a mean over no points is not a number. Pass at least one point.")
    return jnp.asarray(y)


def rmse(prediction: Gaussian | Mixture, y: Float[ArrayLike, " N"]) -> Float[Array, ""]:
    """Root of the mean squared error of the predicted means [N], in the label's unit; in [0, inf).

    >>> rmse(Gaussian(jnp.array([1.0, 3.0]), jnp.ones(2)), jnp.array([1.0, 1.0])).round(4)
    Array(1.4142, dtype=float32)
    """
    y = _checked_real(prediction, y)
    return jnp.sqrt(maths.tree_sum(jnp.square(predictions.moments(prediction).mean - y), axis=0) / y.shape[0])


def density_nll(prediction: Gaussian | Mixture, y: Float[ArrayLike, " N"]) -> Float[Array, ""]:
    """Mean negative log-density of real labels, in nats (it changes with the label's unit, and may be negative).

    Args:
      prediction: of shape [N]: one Gaussian per point (what the deep-ensembles paper scores); or of shape [K, N], draws whose densities
        are averaged: the likelihood of the mixture itself.
      y: the labels.

    >>> round(float(density_nll(Gaussian(jnp.zeros(1), jnp.ones(1)), jnp.zeros(1))), 4)
    0.9189
    """
    y = _checked_real(prediction, y)
    log_p = predictions.log_likelihood(prediction, y)
    return -maths.tree_sum(maths.log_mean_exp(log_p) if log_p.ndim > 1 else log_p, axis=0) / y.shape[0]


class Bins(NamedTuple):
    """A reliability diagram: per bin the mean confidence, the accuracy and how many points fell in it."""

    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    count: Int[np.ndarray, " bins"]


def reliability(
    log_probs: Float[ArrayLike, "N C"], labels: Int[ArrayLike, " N"], *, bins: int = 15, equal_mass: bool = False
) -> Bins:
    """Confidence against accuracy of the predicted class, in bins of confidence.

    Equal-width bins are (0, 1/b], (1/b, 2/b], ... as in Guo et al. 2017, with confidence 0 in the first: 1.0 falls in the
    last bin. Equal-mass bins hold the same number of points to within one, in order of confidence; points of equal confidence
    are kept in one bin. An empty bin has count 0 and confidence and accuracy 0.
    """
    log_probs, labels = _checked(log_probs, labels)
    if isinstance(bins, bool) or not isinstance(bins, int | np.integer) or bins < 1:
        raise checks.WrongSize("bins", f"`bins` must be a positive int, got {bins!r}.")
    host = np.asarray(log_probs, dtype=np.float64)
    confidence = np.exp(host.max(axis=1))
    correct = (host.argmax(axis=1) == np.asarray(labels)).astype(np.float64)
    if equal_mass:
        _values, inverse, counts = np.unique(confidence, return_inverse=True, return_counts=True)
        first = np.cumsum(counts) - counts  # where a group of equal confidences starts decides its bin
        which = (first * bins // len(confidence))[inverse.ravel()]
    else:
        which = np.clip(np.ceil(confidence * bins - 1e-5).astype(int) - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    divisor = np.maximum(count, 1)
    return Bins(
        np.bincount(which, confidence, bins) / divisor, np.bincount(which, correct, bins) / divisor, count)


def ece(
    log_probs: Float[ArrayLike, "N C"], labels: Int[ArrayLike, " N"], *, bins: int = 15, equal_mass: bool = False
) -> float:
    """Expected calibration error of the predicted class; in [0, 1].

    sum over bins of (points in the bin / N) * |accuracy - mean confidence|.

    Args:
      log_probs: averaged log-probabilities.
      labels: the true classes.
      bins: how many bins of confidence.
      equal_mass: bins with equally many points instead of equally wide ones (fewer empty bins, less bias).
    References:
      Naeini et al. 2015; Guo et al. 2017, https://arxiv.org/abs/1706.04599; equal mass: Nixon et al. 2019.

    >>> round(ece(jnp.log(jnp.array([[0.8, 0.2], [0.8, 0.2]])), jnp.array([0, 1])), 4)  # 80 % sure, 50 % right
    0.3
    """
    table = reliability(log_probs, labels, bins=bins, equal_mass=equal_mass)
    return float(np.sum(table.count * np.abs(table.accuracy - table.confidence)) / np.sum(table.count))


def _curve(counts, values):
    counts, values = np.asarray(counts, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if counts.ndim != 1 or counts.shape != values.shape or len(counts) == 0:
        raise checks.WrongShape("values", f"`counts` and `values` must be two vectors of one length; got {counts.shape} and {values.shape}.")
    if np.isnan(values).any():
        raise checks.NonFinite("values", f"`values` is NaN at positions {checks.listed(np.flatnonzero(np.isnan(values)))}.", np.flatnonzero(np.isnan(values)))
    if (np.diff(counts) <= 0).any():
        raise checks.WrongShape("counts", "`counts` must be strictly increasing: the number of labels after each round.")
    return counts, values


def area_under_curve(counts: ArrayLike, values: ArrayLike) -> float:
    """Mean height of a learning curve: the trapezoid area under (labels, value), divided by the range of labels.

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
