"""Scores of one categorical label per point: log-probabilities `[K, *B, C]` of K draws in, one number per point out, in nats.

Every score points the same way: higher = more worth labeling. Called on concrete arrays (NumPy or JAX) each refuses what
is not normalized log-probabilities; under jit only shapes are checked. Arithmetic is float32 whatever the storage.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bayesal import maths
from bayesal.scores.edge import scored
from bayesal.types import ArrayLike


@scored
def entropy(log_probs: Float[ArrayLike, "K *B C"]) -> Float[Array, "*B"]:
    """Entropy of the averaged prediction (total, or predictive, uncertainty), in nats.

    H[mean_k p_k];  0 <= H <= log C.

    Args:
      log_probs: normalized log-probabilities of K draws.
    Returns:
      Higher is more worth labeling.
    References:
      Shannon 1948; as an acquisition function: Settles 2009, section 3.1.

    >>> opposite = jnp.log(jnp.eye(2))[:, None]  # two certain draws that disagree about one point
    >>> entropy(opposite).round(4)
    Array([0.6931], dtype=float32)
    """
    return maths.entropy(maths.log_mean_exp(log_probs))


@scored
def expected_entropy(log_probs: Float[ArrayLike, "K *B C"]) -> Float[Array, "*B"]:
    """Mean over draws of each draw's own entropy (aleatoric uncertainty), in nats.

    mean_k H[p_k] = entropy - bald;  0 <= value <= log C. High means noisy or ambiguous, not informative: it is here to
    explain a pick rather than to choose it.

    Args:
      log_probs: normalized log-probabilities of K draws.
    References:
      Depeweg et al. 2018, https://arxiv.org/abs/1710.07283

    >>> expected_entropy(jnp.log(jnp.eye(2))[:, None])
    Array([0.], dtype=float32)
    """
    terms = maths.sum_over(maths.surprise, maths.flattened(log_probs)).reshape(log_probs.shape[1:])
    return maths.tree_sum(terms, axis=-1) / log_probs.shape[0]


@scored
def least_confidence(log_probs: Float[ArrayLike, "K *B C"]) -> Float[Array, "*B"]:
    """One minus the probability of the most probable class of the averaged prediction; `0 <= value <= 1 - 1/C`.

    Args:
      log_probs: normalized log-probabilities of K draws.
    Returns:
      A probability (no unit). Higher is more worth labeling.
    References:
      Lewis & Gale 1994, https://arxiv.org/abs/cmp-lg/9407020

    >>> round(float(least_confidence(jnp.log(jnp.array([[0.9, 0.1]])))), 4)
    0.1
    """
    log_mean = maths.log_mean_exp(log_probs)
    top = jnp.argmax(log_mean, axis=-1, keepdims=True)
    others = jnp.where(jax.lax.broadcasted_iota(top.dtype, log_mean.shape, log_mean.ndim - 1) == top, 0.0, jnp.exp(log_mean))
    return _known(maths.tree_sum(others, axis=-1), log_mean)  # summing the others keeps values far below 1e-7 apart


@scored
def margin(log_probs: Float[ArrayLike, "K *B C"]) -> Float[Array, "*B"]:
    """Minus the gap between the two most probable classes of the averaged prediction; `-1 <= value <= 0`.

    Args:
      log_probs: normalized log-probabilities of K draws.
    Returns:
      A difference of probabilities (no unit). Higher (nearer 0) is more worth labeling.
    References:
      Scheffer et al. 2001, https://doi.org/10.1007/3-540-44816-0_31

    >>> round(float(margin(jnp.log(jnp.array([[0.6, 0.3, 0.1]])))), 4)
    -0.3
    """
    log_mean = maths.log_mean_exp(log_probs)
    top = jax.lax.top_k(jnp.exp(log_mean), 2)[0]
    return _known(top[..., 1] - top[..., 0], log_mean)


@scored
def variation_ratio(log_probs: Float[ArrayLike, "K *B C"]) -> Float[Array, "*B"]:
    """Share of draws whose predicted class is not the most frequent one; `0 <= value <= 1 - 1/min(K, C)`.

    1 - max_c (number of draws that predict c) / K. Not `1 - max mean p`, which is `least_confidence`. A draw with a tie
    votes for the lowest class.

    Args:
      log_probs: normalized log-probabilities of K draws.
    Returns:
      A frequency (no unit). Higher is more worth labeling.
    References:
      Freeman 1965; Gal 2016, section 3.3.1.

    >>> votes = jnp.log(jnp.array([[[0.6, 0.4]], [[0.9, 0.1]], [[0.3, 0.7]]]))
    >>> variation_ratio(votes).round(4)
    Array([0.3333], dtype=float32)
    """
    votes = jax.nn.one_hot(jnp.argmax(log_probs, axis=-1), log_probs.shape[-1], dtype=jnp.int32)
    others = log_probs.shape[0] - jnp.max(jnp.sum(votes, axis=0), axis=-1)
    return _known(others.astype(jnp.float32) / log_probs.shape[0], log_probs.sum(axis=0))


@scored
def mean_std(log_probs: Float[ArrayLike, "K *B C"]) -> Float[Array, "*B"]:
    """Standard deviation of a class' probability over draws, averaged over classes; `0 <= value <= 1/2`.

    mean_c sqrt(mean_k p_kc^2 - (mean_k p_kc)^2), computed about the mean.

    Args:
      log_probs: normalized log-probabilities of K draws.
    Returns:
      A probability (no unit). Higher is more worth labeling.
    References:
      Kampffmeyer et al. 2016; Kendall et al. 2015, https://arxiv.org/abs/1511.02680

    >>> mean_std(jnp.log(jnp.eye(2))[:, None])
    Array([0.5], dtype=float32)
    """
    probs = jnp.exp(log_probs)
    mean = maths.tree_sum(probs, axis=0) / probs.shape[0]
    variance = maths.sum_over(lambda one: jnp.maximum(jnp.square(one - mean), 0.0), probs) / probs.shape[0]
    none = variance == 0  # the square root has no finite slope at 0
    std = jnp.where(none, 0.0, jnp.sqrt(jnp.where(none, 1.0, variance)))
    return maths.tree_sum(std, axis=-1) / probs.shape[-1]


@scored
def bald(log_probs: Float[ArrayLike, "K *B C"]) -> Float[Array, "*B"]:
    """Mutual information between a label and the draws (epistemic uncertainty), in nats.

    I(y; w | x) = H[mean_k p_k] - mean_k H[p_k] = mean_k KL(p_k || mean p);  0 <= I <= log(min(K, C)).

    It is summed term by term in the KL form, in which every term is >= 0: the difference of entropies loses all its
    digits (and its sign) where draws nearly agree.

    Args:
      log_probs: normalized log-probabilities of K draws.
    Returns:
      Higher is more worth labeling.
    References:
      Houlsby et al. 2011, https://arxiv.org/abs/1112.5745

    >>> two_sure_draws_that_disagree = jnp.log(jnp.eye(2))[:, None]
    >>> bald(two_sure_draws_that_disagree).round(4)
    Array([0.6931], dtype=float32)
    """
    return _information(log_probs, maths.log_mean_exp(log_probs))


class Uncertainty(NamedTuple):
    """Uncertainty of every point, in nats; `total = aleatoric + epistemic`."""

    total: Float[Array, "*B"]
    aleatoric: Float[Array, "*B"]
    epistemic: Float[Array, "*B"]


@scored
def decompose(log_probs: Float[ArrayLike, "K *B C"]) -> Uncertainty:
    """`entropy`, `expected_entropy` and `bald` in one pass over the draws, which takes half the time of three.

    Args:
      log_probs: normalized log-probabilities of K draws.
    References:
      Depeweg et al. 2018, https://arxiv.org/abs/1710.07283

    >>> decompose(jnp.log(jnp.eye(2))[:, None]).aleatoric
    Array([0.], dtype=float32)
    """
    log_mean = maths.log_mean_exp(log_probs)
    total, epistemic = maths.entropy(log_mean), _information(log_probs, log_mean)
    return Uncertainty(total, jnp.maximum(total - epistemic, 0.0), epistemic)


def _information(log_probs: Array, log_mean: Array) -> Array:
    """mean_k KL(p_k || mean p)."""
    flat = maths.flattened(log_probs)
    floor = jnp.maximum(log_mean, -80.0).reshape(flat.shape[1:])  # below, a class weighs nothing; exact where all draws agree
    terms = maths.sum_over(lambda one: _divergence(jnp.maximum(one - floor, -1e30)), flat)
    return maths.tree_sum(jnp.maximum(jnp.exp(floor) * terms, 0.0).reshape(log_mean.shape), axis=-1) / log_probs.shape[0]


def _known(score: Array, log_mean: Array) -> Array:
    """NaN where any class is NaN: argmax and top_k would hide it, and a broken point would look like a certain one."""
    return jnp.where(jnp.isnan(log_mean).any(axis=-1), jnp.nan, score)


# (n - 1) / n! from n = 2: the series of d e^d - e^d + 1 = d^2/2 + d^3/3 + d^4/8 + ...
SERIES = tuple((n - 1) / math.factorial(n) for n in range(2, 10))


def _divergence(d: Array) -> Array:
    """A term of KL(p || q) per unit of q: r log r - r + 1 >= 0, for d = log(p/q) and r = exp(d).

    Near r = 1 the three parts cancel, so there it is a series in d (error 3e-8 of the term).
    """
    small = jnp.clip(d, -0.5, 0.5)
    series = jnp.zeros_like(d)
    for coefficient in SERIES[::-1]:
        series = series * small + coefficient
    ratio = jnp.exp(d)
    return jnp.where(jnp.abs(d) < 0.5, series * small * small, ratio * d - (ratio - 1.0))
