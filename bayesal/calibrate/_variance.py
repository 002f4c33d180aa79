"""One factor on every draw's variance, for predictions of real labels."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal.calibrate import _held_out
from bayesal.calibrate._losses import density_and_slope
from bayesal.calibrate._search import BOUND, Calibrator, Temperature, search, width
from bayesal.types import ArrayLike, Gaussian, Mixture


def fit_variance(
    prediction: Gaussian | Mixture,
    labels: Float[ArrayLike, " N"],
    *,
    weights: ArrayLike | None = None,
    prior_std: float = 1.0,
) -> Temperature:
    """Fit one factor T on every draw's variance by the density of the labels.

    Minimizes -sum_i w_i log mean_k N(y_i; m_k(x_i), T v_k(x_i)) plus a normal prior on log T with
    mean 0 and `prior_std`, which fades as in `fit_temperature`. With one draw and no prior T is the
    mean of (y - m)^2 / v, the variance of the standardized residuals. Means are unchanged, and so
    is the spread between draws.

    Args:
      prediction: of K draws at N held-out points: a `Gaussian` [K, N] or a `Mixture` [K, N, J], as
        a `Predictive` gives.
      labels: their real labels.
      weights: see `fit_temperature`.
      prior_std: standard deviation of log T under the prior, for log standard deviations half of
        it.
    Returns:
      A `Temperature`; T in [1e-6, 1e6], flagged by `at_bound` at either end.
    Raises:
      WrongType, WrongShape, NonFinite, OutOfRange, WrongLabel, WrongSize.
    References:
      Levi et al. 2022, https://arxiv.org/abs/1905.11659 (scaling of standard deviations)

    >>> too_sure = Gaussian(jnp.zeros((1, 1000)), jnp.ones((1, 1000)))
    >>> float(fit_variance(too_sure, jnp.tile(jnp.array([2.0, -2.0]), 500)).temperature.round(3))
    4.0
    """
    prediction, labels, weights = _held_out.numbers(prediction, labels, weights)
    return _fit(prediction, labels, weights, width(prior_std))


def variance(*, prior_std: float = 1.0) -> Calibrator:
    """A learner's calibrator of real labels: `fit_variance` on out-of-fold predictions.

    Called on known values it refuses what `fit_variance` refuses; under jit it checks nothing.
    """
    return Calibrator(functools.partial(_fit, prior_std=width(prior_std)), real=True)


@jax.jit
def _fit(prediction, labels, weights, prior_std):
    weights = weights.astype(jnp.float32)
    return search(
        density_and_slope(prediction, labels, weights), weights, jnp.int32(0), prior_std, 2 * BOUND
    )
