"""k-center: the batch that leaves no point of the pool far from a labeled one."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Real

from bayesal import _checks
from bayesal.select._points import Points, points
from bayesal.select._spread import farthest, spread, squared
from bayesal.types import ArrayLike, Key, Selection


def k_center(
    features: Real[ArrayLike, "N D"],
    size: int,
    *,
    available: Bool[ArrayLike, " N"] | None = None,
    labeled: Bool[ArrayLike, " N"] | None = None,
    key: int | Key | None = None,
) -> Selection:
    """Farthest-first: each pick is the point farthest from its nearest center; centers are labeled
    points and earlier picks.

    argmax_i min_{j in centers} |x_i - x_j|. The radius max_i min_j |x_i - x_j| that the batch
    leaves is at most twice the smallest possible one. With no center yet, the first pick is the
    point farthest from the mean of the available points. `scores` are the distances at which points
    were picked: never increasing, in the units of the features (inf for a first pick without
    centers). Copies of a center are picked only when nothing else is left.

    Memory O(N D), time O(N D) for every pick and every labeled point.

    Args:
      features: one row of numbers per pool point, any float or integer type; computed in float32,
        after a common offset that float32 could not hold is subtracted.
      size: how many points to pick.
      available: which points may be picked; all if None.
      labeled: which points have a label already: they count as centers and are never picked; none
        if None.
      key: breaks ties; without one they go to the lowest row.
    Raises:
      WrongShape, WrongSize, NonFinite (under jit such points are left out and counted in
      `nonfinite`).
    References:
      Sener & Savarese 2018, https://arxiv.org/abs/1708.00489; Gonzalez 1985.

    >>> k_center(
    ...     jnp.array([[0.0], [1.0], [9.0], [9.1], [5.0]]), 3, labeled=jnp.arange(5) == 0
    ... ).indices
    Array([3, 4, 1], dtype=int32)
    """
    pool, size = points(features, size, available, labeled)
    return _k_center(pool, None if key is None else _checks.key(key), size)


@functools.partial(jax.jit, static_argnames="size")
def _k_center(pool: Points, key, size) -> Selection:
    share = jnp.where(
        pool.available, 1.0 / jnp.maximum(pool.available.sum(), 1).astype(jnp.float32), 0.0
    )
    middle = (pool.columns * share[None]).sum(axis=1)
    distances = lambda row: squared(pool.columns, pool.columns[:, row])
    return spread(pool, distances, farthest(key), squared(pool.columns, middle), size)
