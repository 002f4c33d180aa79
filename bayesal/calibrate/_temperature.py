"""One temperature, shared by all draws, for log-probabilities of classes."""

import functools

import jax
from jaxtyping import Float, Int

from bayesal.calibrate import _held_out
from bayesal.calibrate._losses import nll_and_slope, possible
from bayesal.calibrate._search import (
    BOUND,
    CROSS_FITTED,
    Calibrator,
    Temperature,
    doubted,
    search,
    width,
)
from bayesal.types import ArrayLike


def fit_temperature(
    log_probs: Float[ArrayLike, "K N C"],
    labels: Int[ArrayLike, " N"],
    *,
    weights: ArrayLike | None = None,
    prior_std: float = 0.5,
    doubt: float = 0.0,
) -> Temperature:
    """Fit one temperature T by the NLL of the averaged prediction of tempered draws.

    Minimizes -sum_i w_i log mean_k softmax(log p_k(x_i) / T)[y_i] plus a normal prior on log T with
    mean 0 and `prior_std`. The prior's weight fades as (1 - N/500)^2 and is 0 from 500 labels on
    (with more than ten classes: 50 per class). All draws are tempered by one T *before* averaging,
    as in use. The labels must be held out: no draw may have been fitted on them.

    Args:
      log_probs: normalized log-probabilities of K draws at N labeled points.
      labels: their classes.
      weights: how many points of the population each label stands for, where labels are not a
        random sample (`inverse_probability_weights`, `poststratification_weights`). Only ratios
        matter; N becomes the effective sample size.
      prior_std: standard deviation of log T under the prior. In simulations with 10 labels 0.5
        costs less than 1 for true T of 0.5 to 1.5, and more at T = 3; from 50 labels on they are
        level.
      doubt: with N labels of C classes the prior counts 1 + doubt C / N times; 0 for labels that no
        draw was fitted on.
    Returns:
      A `Temperature`; T in [0.001, 1000]. `at_bound` flags a T at either end, `determined` whether
      the data have an optimum in between.
    Raises:
      NotLogProbabilities, NonFinite, WrongShape, WrongLabel, WrongSize, OutOfRange.
    References:
      Guo et al. 2017, https://arxiv.org/abs/1706.04599; tempering members jointly: Rahaman & Thiery
      2021.

    >>> overconfident = jnp.log(jnp.array([[[0.99, 0.01]] * 4]))  # one draw, four points, 99 % sure
    >>> # and right in three of four
    >>> bool(fit_temperature(overconfident, jnp.array([0, 0, 0, 1])).temperature > 1.5)
    True
    """
    log_probs, labels, weights = _held_out.classes(log_probs, labels, weights)
    return _fit(log_probs, labels, weights, width(prior_std), doubted(doubt))


def temperature(
    *, prior_std: float = CROSS_FITTED["prior_std"], doubt: float = CROSS_FITTED["doubt"]
) -> Calibrator:
    """A learner's calibrator: `fit_temperature` on out-of-fold predictions.

    Fold models train on fewer labels than the final model and are more overconfident, so with few
    labels per class the fitted T is too high. `doubt` strengthens the prior there: log T has a
    standard deviation of about 0.3 with two labels per class, 0.7 with ten. Averaged over six data
    sets and nets trained briefly and long, this gains more than `prior_std=0.5, doubt=0` and does
    less harm (`experiments/priors.py`). For labels that no net was trained on use
    `fit_temperature`.

    Args:
      prior_std, doubt: see `fit_temperature`.
    Returns:
      A `Calibrator`. Called on known values it refuses what `fit_temperature` refuses; under jit it
      checks nothing.

    >>> log_probs = jnp.log(jnp.array([[[0.99, 0.01]] * 4]))
    >>> fitted = temperature()(log_probs, jnp.array([0, 0, 0, 1]), jnp.ones(4, bool))
    >>> bool(fitted.temperature > 1)
    True
    """
    return Calibrator(functools.partial(_fit, prior_std=width(prior_std), doubt=doubted(doubt)))


@jax.jit
def _fit(log_probs, labels, weights, prior_std, doubt):
    log_probs, labels, weights, impossible = possible(log_probs, labels, weights)
    return search(
        nll_and_slope(log_probs, labels, weights),
        weights,
        impossible,
        prior_std,
        BOUND,
        doubt,
        log_probs.shape[-1],
    )
