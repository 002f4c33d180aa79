"""BADGE: the batch whose gradients are long and point in different directions."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Real

from bayesal import _checks, _maths, errors
from bayesal.select._points import Points, points, scaled, summed
from bayesal.select._spread import Distances, sampled, spread
from bayesal.types import Array, ArrayLike, Key, Selection


def badge(
    key: int | Key,
    log_probs: Float[ArrayLike, "K N C"],
    features: Real[ArrayLike, "N D"],
    size: int,
    *,
    available: Bool[ArrayLike, " N"] | None = None,
) -> Selection:
    """k-means++ on the gradients of the last layer, each taken at the label that the model itself
    would give.

    g_i = (p_i - e_y) (outer) x_i with p_i = mean_k p_k, y = argmax p_i, x_i the features: long
    where the model is unsure. The first pick is drawn in proportion to |g_i|^2, each later one to
    min_{j picked} |g_i - g_j|^2; copies wait until nothing else is left. `scores` are those
    distances at which points were picked (inf for the first). Labeled points play no part, as
    published.

    No gradient is ever formed: with a_i = p_i - e_y, every distance comes from differences and
    means of the a and of the x as a sum of three squares, so it is never negative and 0 for copies.
    Memory O(N (C + D)), time O(N (C + D)) for every pick. The key goes by row: a permuted pool is
    another draw.

    Args:
      key: fixes the draws.
      log_probs: normalized log-probabilities of K draws, of which the mean counts; a mean alone is
        K = 1, `log_mean[None]`.
      features: what enters the last layer; any float or integer type, computed in float32.
      size: how many points to pick.
      available: which points may be picked; all if None.
    Raises:
      NotLogProbabilities, NonFinite (under jit such points are left out and counted in
      `nonfinite`), WrongShape, WrongSize.
    References:
      Ash et al. 2020, https://arxiv.org/abs/1906.03671

    >>> unsure, sure = jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([1.0, 0.0]))
    >>> badge(jax.random.key(0), jnp.stack([sure, unsure, sure])[None], jnp.eye(3), 1).indices
    Array([1], dtype=int32)
    """
    log_probs = _checks.log_probs(log_probs, ndim=3)
    pool, size = points(features, size, available, from_origin=True)
    if log_probs.shape[1] != pool.available.shape[0]:
        raise errors.WrongShape(
            "features",
            f"`features` has {pool.available.shape[0]} points, but `log_probs` has N = "
            f"{log_probs.shape[1]}; pass both of the same pool.",
        )
    return _badge(_checks.key(key), log_probs, pool, size)


@functools.partial(jax.jit, static_argnames="size")
def _badge(key, log_probs, pool: Points, size) -> Selection:
    broken = jnp.isnan(log_probs).any(axis=(0, 2))
    errors, unit = scaled(jnp.where(broken[None], 0.0, _errors(log_probs)))
    pool = pool._replace(
        unit=pool.unit * unit,
        available=pool.available & ~broken,
        nonfinite=pool.nonfinite + jnp.sum(pool.available & broken),
    )
    opening = _squared_length(errors) * _squared_length(pool.columns)
    return spread(pool, _distances(errors, pool.columns), sampled(key), opening, size)


def _errors(log_probs) -> Float[Array, "C N"]:
    """`p - e_y`; the entry of y itself as minus the sum of the others, which keeps values far below
    1e-7 apart.
    """
    log_mean = _maths.log_mean_exp(log_probs).T
    label = jnp.argmax(log_mean, axis=0)
    own = jnp.arange(log_mean.shape[0])[:, None] == label[None]
    others = jnp.where(own, 0.0, jnp.exp(log_mean))
    return jnp.where(own, -_maths.tree_sum(others, axis=0)[None], others)


def _squared_length(columns: Float[Array, "D N"]) -> Float[Array, " N"]:
    return summed(jnp.square, columns)


def _distances(errors: Float[Array, "C N"], columns: Float[Array, "D N"]) -> Distances:
    """|a_i x_i' - a_j x_j'|^2. With m the mean and d the difference of a_i and a_j, and n and e
    those of the x, the matrix is d n' + m e'. Split d into its part along m and the rest, e
    likewise along n: three matrices remain that are orthogonal.
    """

    def distances(row):
        a_mean, a_along, a_rest = _split(errors, errors[:, row])
        x_mean, x_along, x_rest = _split(columns, columns[:, row])
        return (
            a_rest * jnp.square(x_mean)
            + x_rest * jnp.square(a_mean)
            + jnp.square(a_along * x_mean + x_along * a_mean)
        )

    return distances


def _split(columns, center):
    """Of each column and the center: length of their mean, their difference along it, and its
    squared length across.
    """
    both = lambda x, c: (0.5 * (x + c), x - c)

    def along_mean(x, c):
        mean, difference = both(x, c)
        return jnp.square(mean), mean * difference

    def across_mean(x, c):
        mean, difference = both(x, c)
        return jnp.square(difference - share * mean)

    square, inner = summed(along_mean, columns, center)
    some = square > 0.0
    length = jnp.sqrt(square)
    share = jnp.where(some, inner / jnp.where(some, square, 1.0), 0.0)
    return length, share * length, summed(across_mean, columns, center)
