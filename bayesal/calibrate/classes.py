"""Confidence that matches accuracy: one temperature, shared by all draws."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bayesal import _checks, _maths, errors
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

FLOOR = -1e4  # log-probabilities below this are as good as 0, at any T


def fit_temperature(
    log_probs: Float[ArrayLike, "K N C"],
    labels: Int[ArrayLike, " N"],
    *,
    weights: ArrayLike | None = None,
    prior_std: float = 0.5,
    doubt: float = 0.0,
) -> Temperature:
    """The temperature T that makes the averaged prediction of tempered draws most likely.

    Minimizes -sum_i w_i log mean_k softmax(log p_k(x_i) / T)[y_i] plus a prior on log T, normal
    with mean 0 and `prior_std`, whose weight fades as (1 - N/500)^2 and is 0 from 500 labels on (of
    more than ten classes: 50 of each). All draws are tempered by one T *before* averaging: the loss
    is that of what is used. The labels must be held out: no draw may have been fitted on them.

    Args:
      log_probs: normalized log-probabilities of K draws at N labeled points.
      labels: their classes.
      weights: how many points of the population each label stands for, for labels that are no fair
        sample (`inverse_probability_weights`, `poststratification_weights`); only their ratios
        matter, and N becomes the number of labels that unequal ones are worth.
      prior_std: standard deviation of log T under the prior. In simulations with 10 labels 0.5
        costs less than 1 for true T of 0.5 to 1.5, and more at T = 3; from 50 labels on they are
        level.
      doubt: at N labels of C classes the prior weighs 1 + doubt C / N times as much; 0 for labels
        that were set apart from all draws alike.
    Returns:
      A `Temperature`; T in [0.05, 20] always.
    References:
      Guo et al. 2017, https://arxiv.org/abs/1706.04599; tempering members jointly: Rahaman & Thiery
      2021.

    >>> overconfident = jnp.log(jnp.array([[[0.99, 0.01]] * 4]))  # one draw, four points, 99 % sure
    >>> # and right in three of four
    >>> bool(fit_temperature(overconfident, jnp.array([0, 0, 0, 1])).temperature > 1.5)
    True
    """
    log_probs, labels, weights = held_out(log_probs, labels, weights)
    return _fit(log_probs, labels, weights, width(prior_std), doubted(doubt))


def held_out(log_probs: Any, labels: Any, weights: Any) -> tuple[Array, Array, Array]:
    """Log-probabilities `[K, N, C]`, labels `[N]` and weights `[N]` of at least one label, or an
    error that names what they are not.
    """
    log_probs = _checks.log_probs(log_probs, ndim=3)
    count = log_probs.shape[1]
    if count == 0:
        raise errors.WrongSize(
            "labels", "`labels` is empty: a temperature needs at least one held-out label."
        )
    return (
        log_probs,
        _checks.class_labels(labels, log_probs.shape[2], count),
        _checks.weights(weights, count),
    )


def temperature(
    *, prior_std: float = CROSS_FITTED["prior_std"], doubt: float = CROSS_FITTED["doubt"]
) -> Calibrator:
    """The calibrator of a learner: `fit_temperature` on out-of-fold predictions.

    Those come from nets that know fewer labels than the one that is used: with two labels of each
    class, half of those of the class that is held out. They look too sure where that one is not, so
    that a temperature does harm while labels are few, and the prior holds it back: log T has a
    standard deviation of about 0.3 with two labels per class, 0.7 with ten. On average over six
    data sets, and nets trained briefly and long, that gains more than 0.5 and does less harm
    (`experiments/priors.py`). For labels that no net has seen take `fit_temperature`, or its
    `prior_std=0.5, doubt=0`.
    """
    return Calibrator(functools.partial(_fit, prior_std=width(prior_std), doubt=doubted(doubt)))


def possible(
    log_probs: Float[Array, "K N C"],
    labels: Int[Array, " N"],
    weights: Bool[Array, " N"] | Float[Array, " N"],
) -> tuple[Float[Array, "K N C"], Int[Array, " N"], Float[Array, " N"], Int[Array, ""]]:
    """What can be fitted: finite log-probabilities, labels, weights without labels of probability 0
    under every draw, and how many there were.
    """
    weights = weights.astype(jnp.float32)
    labels = jnp.where(weights > 0, labels, 0)  # padding may hold anything
    of_label = jnp.take_along_axis(log_probs, labels[None, :, None], axis=-1)[..., 0]
    impossible = (weights > 0) & (jnp.max(of_label, axis=0) == -jnp.inf)
    weights = jnp.where(impossible, 0.0, weights)
    log_probs = jnp.where(
        weights[None, :, None] > 0, log_probs, 0.0
    )  # padding may hold anything, and 0 * NaN is NaN
    # a class that is ruled out stays so at every T, with finite slopes
    return jnp.maximum(log_probs, FLOOR), labels, weights, impossible.sum()


def nll_and_slope(
    log_probs: Float[Array, "K N C"], labels: Int[Array, " N"], weights: Float[Array, " N"]
) -> Callable[[Float[Array, ""]], tuple[Float[Array, ""], Float[Array, ""]]]:
    """A function of log T: the weighted mean NLL of the averaged prediction of draws tempered by T,
    and its derivative.

    With a = log p / T, d log softmax(a)_y / d log T = E[a] - a_y; the average over draws weighs
    each by its share of the likelihood. Everything that does not depend on T is done once: the
    largest class is moved to 0, so that no exponential can overflow, and classes become the leading
    axis, so that one pass with one exponential per number gives both sums over them.
    """
    centered = log_probs - jnp.max(log_probs, axis=-1, keepdims=True)
    of_label = jnp.take_along_axis(centered, labels[None, :, None], axis=-1)[..., 0]
    by_class = jnp.moveaxis(centered, -1, 0).reshape(log_probs.shape[-1], -1)
    share_of = weights / jnp.maximum(jnp.sum(weights), 1e-30)
    average = lambda a: _maths.tree_sum(share_of * a, axis=0)

    def look(log_t):
        inverse = jnp.exp(-log_t)
        tempered = lambda a: jnp.exp(a * inverse)
        total = _maths.sum_over(tempered, by_class).reshape(of_label.shape)
        mean = _maths.sum_over(lambda a: tempered(a) * a, by_class).reshape(of_label.shape) / total
        likely = of_label * inverse - jnp.log(total)
        averaged = _maths.log_mean_exp(likely)
        share = jnp.exp(likely - averaged[None]) / likely.shape[0]
        return -average(averaged), -average(
            inverse * _maths.sum_over(lambda a: a, share * (mean - of_label))
        )

    return look


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
