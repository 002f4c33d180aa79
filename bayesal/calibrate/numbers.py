"""Error bars that hold what they promise: one number that every draw's variance is
multiplied by.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bayesal import _checks, _maths, errors
from bayesal.calibrate._search import BOUND, Calibrator, Temperature, search, width
from bayesal.types import ArrayLike, Gaussian, Mixture


def fit_variance(
    prediction: Gaussian | Mixture,
    y: Float[ArrayLike, " N"],
    *,
    weights: ArrayLike | None = None,
    prior_std: float = 1.0,
) -> Temperature:
    """The number T by which every draw's variance is multiplied so that the averaged density of the
    labels is highest.

    Minimizes -sum_i w_i log mean_k N(y_i; m_k(x_i), T v_k(x_i)) plus a prior on log T, normal with
    mean 0 and `prior_std`, that fades as that of `fit_temperature` does. Of one draw without a
    prior it is the mean of (y - m)^2 / v: in closed form the variance of the standardized
    residuals. Means stay where they are, and so does the spread between draws.

    Args:
      prediction: of K draws at N held-out points: a `Gaussian` [K, N] or a `Mixture` [K, N, J], as
        a `Predictive` gives.
      y: their labels.
      weights: see `fit_temperature`.
      prior_std: standard deviation of log T: half of it is that of the logarithm of the standard
        deviations themselves.
    Returns:
      A `Temperature`; T in [1/400, 400] always.
    References:
      Levi et al. 2022, https://arxiv.org/abs/1905.11659 (scaling of standard deviations)

    >>> too_sure = Gaussian(jnp.zeros((1, 1000)), jnp.ones((1, 1000)))
    >>> float(fit_variance(too_sure, jnp.tile(jnp.array([2.0, -2.0]), 500)).temperature.round(3))
    4.0
    """
    if not isinstance(prediction, Gaussian | Mixture) or jnp.ndim(
        prediction.mean
    ) != 2 + isinstance(prediction, Mixture):
        raise errors.WrongType(
            "prediction",
            "`prediction` must be a Gaussian [K, N] or a Mixture [K, N, J] of K draws, as a "
            f"Predictive gives; got {type(prediction).__name__}.",
        )
    count = prediction.mean.shape[1]
    if count == 0:
        raise errors.WrongSize(
            "y", "`y` is empty: a temperature needs at least one held-out label."
        )
    if _checks.concrete(y):
        y = _checks.real_labels(y, count, "y")
    return _fit(prediction, jnp.asarray(y), _checks.weights(weights, count), width(prior_std))


def variance(*, prior_std: float = 1.0) -> Calibrator:
    """The calibrator of a learner of real labels: `fit_variance` on out-of-fold predictions."""
    return Calibrator(functools.partial(_fit, prior_std=width(prior_std)), real=True)


def density_and_slope(
    prediction: Gaussian | Mixture, y: Float[Array, " N"], weights: Float[Array, " N"]
) -> Callable[[Float[Array, ""]], tuple[Float[Array, ""], Float[Array, ""]]]:
    """A function of log T: the weighted mean negative log-density of the average of draws with T
    times their variance, and its derivative.

    d log N(y; m, T v) / d log T = ((y - m)^2 / (T v) - 1) / 2.
    """
    known = weights > 0  # padding may hold anything
    if isinstance(prediction, Gaussian):
        prediction = Mixture(
            *(a[..., None] for a in (jnp.zeros_like(prediction.mean), *prediction))
        )
    log_weight, mean, variance = (
        jnp.moveaxis(a, -1, 0).reshape(-1, a.shape[1]) for a in prediction
    )  # [J K, N]
    square = jnp.where(known[None], jnp.square(y[None] - mean) / variance, 0.0)
    fixed = jnp.where(known[None], log_weight - 0.5 * jnp.log(2 * jnp.pi * variance), 0.0)
    share_of = weights / jnp.maximum(jnp.sum(weights), 1e-30)
    average = lambda a: _maths.tree_sum(share_of * a, axis=0)
    draws = prediction.mean.shape[0]

    def look(log_t):
        scaled = square * jnp.exp(-log_t)
        each = fixed - 0.5 * (scaled + log_t)
        total = jax.nn.logsumexp(each, axis=0)
        share = jnp.exp(each - total[None])
        return -average(total - jnp.log(float(draws))), -average(
            0.5 * (_maths.tree_sum(share * scaled, axis=0) - 1.0)
        )

    return look


@jax.jit
def _fit(prediction, y, weights, prior_std):
    weights = weights.astype(jnp.float32)
    return search(
        density_and_slope(prediction, y, weights), weights, jnp.int32(0), prior_std, 2 * BOUND
    )
