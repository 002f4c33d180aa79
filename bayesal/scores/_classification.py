"""Scores of one categorical label per point: log-probabilities `[K, *B, C]` of K draws in, one
number per point out, in nats.

Every score points the same way: higher = more worth labeling. Called on concrete arrays (NumPy or
JAX) each refuses what is not normalized log-probabilities; under jit only shapes are checked.
Arithmetic is float32 whatever the storage.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _maths
from bayesal.scores._compiled import scored
from bayesal.types import Array


@scored
def entropy(log_probs: Float[Array, "K *B C"]) -> Float[Array, "*B"]:
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
    return _entropy(_maths.averaged(log_probs)[1], log_probs.shape[1:])


@scored
def expected_entropy(log_probs: Float[Array, "K *B C"]) -> Float[Array, "*B"]:
    """Mean over draws of each draw's own entropy (aleatoric uncertainty), in nats.

    mean_k H[p_k] = entropy - bald;  0 <= value <= log C. High means noisy or ambiguous, not
    informative: it is here to explain a pick rather than to choose it.

    Args:
      log_probs: normalized log-probabilities of K draws.
    References:
      Depeweg et al. 2018, https://arxiv.org/abs/1710.07283

    >>> expected_entropy(jnp.log(jnp.eye(2))[:, None])
    Array([0.], dtype=float32)
    """
    terms = _maths.pairwise(_maths.surprise(_maths.flattened(log_probs))).reshape(
        log_probs.shape[1:]
    )
    return _maths.pairwise(terms, axis=-1) / log_probs.shape[0]


@scored
def least_confidence(log_probs: Float[Array, "K *B C"]) -> Float[Array, "*B"]:
    """One minus the probability of the most probable class of the averaged prediction; `0 <= value
    <= 1 - 1/C`.

    Args:
      log_probs: normalized log-probabilities of K draws.
    Returns:
      A probability (no unit). Higher is more worth labeling.
    References:
      Lewis & Gale 1994, https://arxiv.org/abs/cmp-lg/9407020

    >>> round(float(least_confidence(jnp.log(jnp.array([[0.9, 0.1]])))), 4)
    0.1
    """
    mean, others = _others(log_probs)
    return _known(
        _maths.pairwise(others, axis=-1), mean
    )  # summing the others keeps values far below 1e-7 apart


@scored
def margin(log_probs: Float[Array, "K *B C"]) -> Float[Array, "*B"]:
    """Minus the gap between the two most probable classes of the averaged prediction; `-1 <= value
    <= 0`.

    Args:
      log_probs: normalized log-probabilities of K draws.
    Returns:
      A difference of probabilities (no unit). Higher (nearer 0) is more worth labeling.
    References:
      Scheffer et al. 2001, https://doi.org/10.1007/3-540-44816-0_31

    >>> round(float(margin(jnp.log(jnp.array([[0.6, 0.3, 0.1]])))), 4)
    -0.3
    """
    mean, others = _others(log_probs)
    return _known(jnp.max(others, axis=-1) - jnp.max(mean, axis=-1), mean)


@scored
def variation_ratio(log_probs: Float[Array, "K *B C"]) -> Float[Array, "*B"]:
    """Share of draws whose predicted class is not the most frequent one; `0 <= value <= 1 -
    1/min(K, C)`.

    1 - max_c (number of draws that predict c) / K. Not `1 - max mean p`, which is
    `least_confidence`. A draw with a tie votes for the lowest class.

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
def mean_std(log_probs: Float[Array, "K *B C"]) -> Float[Array, "*B"]:
    """Standard deviation of a class' probability over draws, averaged over classes; `0 <= value <=
    1/2`.

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
    probs, mean = _maths.averaged(log_probs)
    variance = _maths.pairwise(jnp.maximum(jnp.square(probs - mean[None]), 0.0)) / probs.shape[0]
    std = _maths.root(variance).reshape(log_probs.shape[1:])
    return _maths.pairwise(std, axis=-1) / log_probs.shape[-1]


@scored
def bald(log_probs: Float[Array, "K *B C"]) -> Float[Array, "*B"]:
    """Mutual information between a label and the draws (epistemic uncertainty), in nats.

    I(y; w | x) = H[mean_k p_k] - mean_k H[p_k] = mean_k KL(p_k || mean p);  0 <= I <= log(min(K,
    C)).

    It is summed term by term in the KL form, in which every term is >= 0: the difference of
    entropies loses all its digits (and its sign) where draws nearly agree. What rounding makes of
    draws that do agree, 1e-13 or so, counts as 0. Query by committee knows the same number as the
    KL divergence of the members from their consensus (McCallum & Nigam 1998).

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
    return _information(log_probs, *_maths.averaged(log_probs))


class Uncertainty(NamedTuple):
    """Uncertainty of every point, in nats; `total = aleatoric + epistemic`."""

    total: Float[Array, "*B"]
    aleatoric: Float[Array, "*B"]
    epistemic: Float[Array, "*B"]


@scored
def decompose(log_probs: Float[Array, "K *B C"]) -> Uncertainty:
    """`entropy`, `expected_entropy` and `bald` in one pass over the draws, which takes half the
    time of three.

    Args:
      log_probs: normalized log-probabilities of K draws.
    References:
      Depeweg et al. 2018, https://arxiv.org/abs/1710.07283

    >>> decompose(jnp.log(jnp.eye(2))[:, None]).aleatoric
    Array([0.], dtype=float32)
    """
    probs, mean = _maths.averaged(log_probs)
    total = _entropy(mean, log_probs.shape[1:])
    epistemic = _information(log_probs, probs, mean)
    return Uncertainty(total, jnp.maximum(total - epistemic, 0.0), epistemic)


def _others(log_probs: Array) -> tuple[Array, Array]:
    """The averaged prediction `[*B, C]`, and again with 0 for its most probable class."""
    mean = _maths.averaged(log_probs)[1].reshape(log_probs.shape[1:])
    top = jnp.argmax(mean, axis=-1, keepdims=True)
    return mean, jnp.where(
        jax.lax.broadcasted_iota(top.dtype, mean.shape, mean.ndim - 1) == top, 0.0, mean
    )


def _entropy(mean: Array, shape: tuple[int, ...]) -> Array:
    """-sum_c q_c log q_c of flat probabilities; the log of one near 1 comes from the others, which
    keep its digits.
    """
    none = mean < _maths.TINY
    terms = jnp.where(none, 0.0, -mean * jnp.log(jnp.where(none, 1.0, mean))).reshape(shape)
    mean = mean.reshape(shape)
    most = mean > 0.5
    others = _maths.pairwise(jnp.where(most, 0.0, mean), axis=-1)[..., None]
    # Where no class is above one half the others are all of them, and log1p(-1) is not used. The
    # second `where` keeps its infinite slope out of the gradient.
    safe = jnp.where(most, others, 0.0)
    return _maths.pairwise(jnp.where(most, -mean * jnp.log1p(-safe), terms), axis=-1)


def _information(log_probs: Array, probs: Array, mean: Array) -> Array:
    """mean_k KL(p_k || q), with q the mean."""
    draws, none = probs.shape[0], mean < _maths.TINY
    mass = jnp.where(none, 1.0, mean)
    log_mean = jnp.log(mass)
    gap = _maths.flattened(log_probs) - log_mean[None]
    total = _maths.pairwise(
        _divergence(jnp.where(gap < -100.0, -100.0, gap), probs * _maths.reciprocal(mass)[None])
    )
    rounding = (
        0.5 * draws * jnp.square(5e-7 + 1e-7 * jnp.abs(log_mean))
    )  # twice what comes out of draws that agree
    terms = jnp.where(none | (total < rounding), 0.0, mean * total)
    return _maths.pairwise(terms.reshape(log_probs.shape[1:]), axis=-1) / draws


def _known(score: Array, mean: Array) -> Array:
    """NaN where any class is NaN: argmax and top_k would hide it, and a broken point would look
    like a certain one.
    """
    return jnp.where(jnp.isnan(mean).any(axis=-1), jnp.nan, score)


# (n - 1) / n! from n = 2: the series of d e^d - e^d + 1 = d^2/2 + d^3/3 + d^4/8 + ...
SERIES = tuple((n - 1) / math.factorial(n) for n in range(2, 10))


def _divergence(d: Array, ratio: Array) -> Array:
    """A term of KL(p || q) per unit of q: r log r - r + 1 >= 0, for r = p/q and d = log r.

    Near r = 1 the three parts cancel, so there it is a series in d (error 3e-8 of the term).
    Comparisons, as clip and maximum ask each number twice whether it is NaN.
    """
    near = jnp.abs(d) < 0.5
    small = jnp.where(near, d, 0.0)
    series = SERIES[-1] * small + SERIES[-2]
    for coefficient in SERIES[-3::-1]:
        series = series * small + coefficient
    return jnp.where(near, series * small * small, ratio * d - (ratio - 1.0))
