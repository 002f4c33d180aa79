"""Confidence that matches accuracy: one temperature, shared by all draws."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bayesal import checks, maths
from bayesal.types import ArrayLike

BOUND = 3.0  # |log T| never exceeds this: T lies between 0.05 and 20
FADE = 500  # labels from which on the prior has no weight at all
GRID = 25  # places at which the slope of the loss is looked at before bisection


class Temperature(NamedTuple):
    """A fitted temperature. NLLs are means per label, in nats, of the averaged tempered prediction.

    determined: whether the data alone have an optimum inside the bounds. Where not (all correct, all wrong, constant
    predictions, too few labels), the prior decides, and the temperature stays finite.
    """

    temperature: Float[Array, ""]
    nll_before: Float[Array, ""]
    nll_after: Float[Array, ""]
    determined: Bool[Array, ""]


def unfitted() -> Temperature:
    """T = 1, fitted on nothing."""
    return Temperature(jnp.float32(1.0), jnp.float32(jnp.nan), jnp.float32(jnp.nan), jnp.bool_(False))


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


def mean_nll(log_probs, labels, valid, log_t) -> Float[Array, ""]:
    """Mean NLL of the averaged prediction of draws tempered by exp(log_t), over the valid rows."""
    tempered = jax.nn.log_softmax(log_probs * jnp.exp(-log_t), axis=-1)
    of_label = jnp.take_along_axis(tempered, labels[None, :, None], axis=-1)[..., 0]
    losses = jnp.where(valid, -jnp.maximum(maths.log_mean_exp(of_label), -1e4), 0.0)
    return maths.tree_sum(losses, axis=0) / jnp.maximum(valid.sum(), 1).astype(jnp.float32)


@functools.partial(jax.jit, static_argnames="prior_std")
def _fit(log_probs, labels, valid, prior_std):
    count = valid.sum().astype(jnp.float32)
    log_probs = jnp.where(valid[None, :, None], log_probs, 0.0)  # padding may hold anything, and 0 * NaN is a NaN slope
    log_probs = jnp.maximum(log_probs, -1e4)  # a class ruled out stays ruled out at every T, with finite slopes
    loss = functools.partial(mean_nll, log_probs, labels, valid)
    slope = jax.grad(loss)
    grid = jnp.linspace(-BOUND, BOUND, GRID)
    losses, slopes = jax.lax.map(lambda t: jax.value_and_grad(loss)(t), grid)
    # an optimum of the data alone: the slope turns from falling to rising somewhere inside
    determined = jnp.any((slopes[:-1] < 0) & (slopes[1:] >= 0)) & (count > 1)
    fade = jnp.square(jnp.maximum(1.0 - count / FADE, 0.0))
    strength = jnp.where(determined, fade, 1.0) / (prior_std**2 * jnp.maximum(count, 1))
    best = jnp.argmin(losses + 0.5 * strength * jnp.square(grid))
    low, high = grid[jnp.maximum(best - 1, 0)], grid[jnp.minimum(best + 1, GRID - 1)]

    def halve(_, ends):
        low, high = ends
        middle = 0.5 * (low + high)
        rising = slope(middle) + strength * middle > 0
        return jnp.where(rising, low, middle), jnp.where(rising, middle, high)

    low, high = jax.lax.fori_loop(0, 22, halve, (low, high))
    log_t = 0.5 * (low + high)
    return Temperature(jnp.exp(log_t), loss(jnp.float32(0.0)), loss(log_t), determined)
