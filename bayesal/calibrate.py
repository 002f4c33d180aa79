"""Confidence that matches accuracy: one temperature, shared by all draws."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bayesal import checks, maths
from bayesal.types import ArrayLike

BOUND = math.log(20.0)  # |log T| never exceeds this
FADE = 500  # labels from which on the prior has no weight at all
GRID = 25  # places at which the slope of the loss is looked at before bisection; odd, so that T = 1 is one of them
FLOOR = -1e4  # log-probabilities below this are as good as 0, at any T


class Temperature(NamedTuple):
    """A fitted temperature. NLLs are means per label, in nats, of the averaged tempered prediction.

    determined: whether the data alone have an optimum inside the bounds. Where not (all correct, all wrong, constant
    predictions, too few labels), the prior decides, and the temperature stays finite.
    impossible: how many labels have probability 0 under every draw. No temperature can change that, so they are left out of the
    fit and of both NLLs (which would be infinite).
    """

    temperature: Float[Array, ""]
    nll_before: Float[Array, ""]
    nll_after: Float[Array, ""]
    determined: Bool[Array, ""]
    impossible: Int[Array, ""]


def unfitted() -> Temperature:
    """T = 1, fitted on nothing."""
    return Temperature(jnp.float32(1.0), jnp.float32(jnp.nan), jnp.float32(jnp.nan), jnp.bool_(False), jnp.int32(0))


Calibrator = Callable[[Float[Array, "K N C"], Int[Array, " N"], Bool[Array, " N"]], Temperature]


def fit_temperature(
    log_probs: Float[ArrayLike, "K N C"], labels: Int[ArrayLike, " N"], *, prior_std: float = 1.0
) -> Temperature:
    """The temperature T that makes the averaged prediction of tempered draws most likely.

    Minimizes -sum_i log mean_k softmax(log p_k(x_i) / T)[y_i] plus a prior on log T, normal with mean 0 and `prior_std`,
    whose weight fades as (1 - N/500)^2 and is 0 from 500 labels on. All draws are tempered by one T *before* averaging:
    the loss is that of what is used. The labels must be held out: no draw may have been fitted on them.

    Args:
      log_probs: normalized log-probabilities of K draws at N labeled points.
      labels: their classes.
      prior_std: standard deviation of log T under the prior.
    Returns:
      A `Temperature`; T in [0.05, 20] always.
    References:
      Guo et al. 2017, https://arxiv.org/abs/1706.04599; tempering members jointly: Rahaman & Thiery 2021.

    >>> overconfident = jnp.log(jnp.array([[[0.99, 0.01]] * 4]))  # one draw, four points, 99 % sure
    >>> bool(fit_temperature(overconfident, jnp.array([0, 0, 0, 1])).temperature > 1.5)  # and right in three of four
    True
    """
    log_probs = checks.log_probs(log_probs, ndim=3)
    count = log_probs.shape[1]
    if count == 0:
        raise checks.WrongSize("labels", "`labels` is empty: a temperature needs at least one held-out label.")
    if not prior_std > 0:
        raise checks.WrongSize("prior_std", f"`prior_std` must be positive, got {prior_std}.")
    if checks.concrete(labels):
        labels = checks.labels(labels, log_probs.shape[2], count)
    return _fit(log_probs, jnp.asarray(labels), jnp.ones(count, bool), prior_std)


def temperature(*, prior_std: float = 1.0) -> Calibrator:
    """The calibrator of a learner: `fit_temperature` on out-of-fold predictions `(log_probs, labels, valid)`.

    Rows where `valid` is False are padding and change nothing.
    """
    if not prior_std > 0:
        raise checks.WrongSize("prior_std", f"`prior_std` must be positive, got {prior_std}.")
    return functools.partial(_fit, prior_std=prior_std)


def nll_and_slope(log_probs, labels, valid, log_t) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean NLL of the averaged prediction of draws tempered by exp(log_t), over the valid rows, and its derivative by log_t.

    With a = log p / T, d log softmax(a)_y / d log T = E[a] - a_y; the average over draws weighs each by its share of the likelihood.
    """
    logits = log_probs * jnp.exp(-log_t)
    tempered = jax.nn.log_softmax(logits, axis=-1)
    of_label, logit = (jnp.take_along_axis(a, labels[None, :, None], axis=-1)[..., 0] for a in (tempered, logits))
    mean = maths.log_mean_exp(of_label)
    share = jnp.exp(of_label - mean[None]) / log_probs.shape[0]
    rise = jnp.sum(share * jnp.sum(jnp.exp(tempered) * (logits - logit[..., None]), axis=-1), axis=0)
    average = lambda a: maths.tree_sum(jnp.where(valid, a, 0.0), axis=0) / jnp.maximum(valid.sum(), 1).astype(jnp.float32)
    return average(-mean), average(-rise)


@functools.partial(jax.jit, static_argnames="prior_std")
def _fit(log_probs, labels, valid, prior_std):
    of_label = jnp.take_along_axis(log_probs, labels[None, :, None], axis=-1)[..., 0]
    impossible = valid & (jnp.max(of_label, axis=0) == -jnp.inf)
    valid = valid & ~impossible
    count = valid.sum().astype(jnp.float32)
    log_probs = jnp.where(valid[None, :, None], log_probs, 0.0)  # padding may hold anything, and 0 * NaN is NaN
    log_probs = jnp.maximum(log_probs, FLOOR)  # a class that is ruled out stays so at every T, with finite slopes
    look = functools.partial(nll_and_slope, log_probs, labels, valid)
    grid = jnp.linspace(-BOUND, BOUND, GRID)
    losses, slopes = jax.lax.map(look, grid)
    # an optimum of the data alone: the slope turns from falling to rising somewhere inside
    determined = jnp.any((slopes[:-1] < 0) & (slopes[1:] >= 0)) & (count > 1)
    fade = jnp.square(jnp.maximum(1.0 - count / FADE, 0.0))
    strength = jnp.where(determined, fade, 1.0) / (prior_std**2 * jnp.maximum(count, 1))
    best = jnp.argmin(losses + 0.5 * strength * jnp.square(grid))
    low, high = grid[jnp.maximum(best - 1, 0)], grid[jnp.minimum(best + 1, GRID - 1)]

    def halve(_, carry):
        low, high, _, _ = carry
        middle = 0.5 * (low + high)
        loss, slope = look(middle)
        rising = slope + strength * middle > 0
        return jnp.where(rising, low, middle), jnp.where(rising, middle, high), middle, loss

    *_, log_t, loss = jax.lax.fori_loop(0, 23, halve, (low, high, low, losses[0]))
    return Temperature(jnp.exp(log_t), losses[GRID // 2], loss, determined, impossible.sum())  # the grid's middle is T = 1
