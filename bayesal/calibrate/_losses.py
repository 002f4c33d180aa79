"""The losses that calibration minimizes, as functions of log T."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from bayesal import _maths
from bayesal.types import Array, Gaussian, Mixture

# log-probabilities are cut here: at the highest T of 1,000 this is still a probability of e^-1000
FLOOR = -1e6


def possible(
    log_probs: Float[Array, "K N C"],
    labels: Int[Array, " N"],
    weights: Bool[Array, " N"] | Float[Array, " N"],
) -> tuple[Float[Array, "K N C"], Int[Array, " N"], Float[Array, " N"], Int[Array, ""]]:
    """Finite log-probabilities, labels, weights that are 0 for impossible labels, and their number.

    A label is impossible if it has probability 0 under every draw.
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
    """The weighted mean NLL of the averaged tempered prediction, and its slope, by log T.

    With a = log p / T, d log softmax(a)_y / d log T = E[a] - a_y; the average over draws weighs
    each draw by its share of the likelihood.
    """
    # whatever does not depend on T is done once: the largest class is moved to 0, so that no
    # exponential overflows, and classes become the leading axis, so that one pass with one
    # exponential per number gives both sums over them
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


def density_and_slope(
    prediction: Gaussian | Mixture, y: Float[Array, " N"], weights: Float[Array, " N"]
) -> Callable[[Float[Array, ""]], tuple[Float[Array, ""], Float[Array, ""]]]:
    """The weighted mean negative log-density of draws with T times their variance, and its slope,
    by log T.

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
