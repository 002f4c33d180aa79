"""Batches that represent the pool: k-means++ seeds, and the points nearest the centers
of k-means.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float, Int, Real

from bayesal import _checks
from bayesal.select._points import Points, points
from bayesal.select._spread import pairwise, sampled, spread, squared
from bayesal.types import Array, ArrayLike, Key, Selection

TILE = 256  # points, and centers, that are compared at a time


def k_means_pp(
    key: int | Key,
    features: Real[ArrayLike, "N D"],
    size: int,
    *,
    available: Bool[ArrayLike, " N"] | None = None,
    labeled: Bool[ArrayLike, " N"] | None = None,
) -> Selection:
    """k-means++ seeds: each pick is drawn in proportion to its squared distance from the nearest
    center.

    p(i) = d_i^2 / sum_j d_j^2, d_i = min_{j in centers} |x_i - x_j|; centers are labeled points and
    earlier picks. With no center yet, the first pick is uniform. A point at distance 0 is picked
    only when nothing else is left, then uniformly. `scores` are the distances d at which points
    were picked, in the units of the features (inf for a first pick without centers).

    Memory O(N D), time O(N D) for every pick and every labeled point. The key goes by row: a
    permuted pool is another draw.

    Args:
      key: fixes the draws.
      features: one row of numbers per pool point, any float or integer type; computed in float32,
        after a common offset that float32 could not hold is subtracted.
      size: how many points to pick.
      available: which points may be picked; all if None.
      labeled: which points have a label already: they count as centers and are never picked; none
        if None.
    Raises:
      WrongShape, WrongSize, NonFinite (under jit such points are left out and counted in
      `nonfinite`).
    References:
      Arthur & Vassilvitskii 2007, https://dl.acm.org/doi/10.5555/1283383.1283494

    >>> copies = jnp.array([[0.0], [0.0], [0.0], [7.0]])
    >>> 3 in k_means_pp(jax.random.key(0), copies, 2).indices.tolist()
    True
    """
    pool, size = points(features, size, available, labeled)
    return _k_means_pp(_checks.key(key), pool, size)


@functools.partial(jax.jit, static_argnames="size")
def _k_means_pp(key, pool: Points, size, stop=None) -> Selection:
    distances = lambda row: squared(pool.columns, pool.columns[:, row])
    return spread(pool, distances, sampled(key), jnp.ones_like(pool.columns[0]), size, stop)


def k_means(
    key: int | Key,
    features: Real[ArrayLike, "N D"],
    size: int,
    *,
    available: Bool[ArrayLike, " N"] | None = None,
    iterations: int = 10,
) -> Selection:
    """The points nearest the centers of `size` clusters of the available points; largest cluster
    first.

    Lloyd's algorithm from k-means++ seeds: each step assigns every point to its nearest center
    (ties to the first) and moves every center to the mean of its points, so sum_i min_c |x_i -
    m_c|^2 never increases (up to rounding). A center without points stays. Each pick is the nearest
    point that is not picked yet; copies of picks wait until nothing else is left. `scores` are the
    shares of the available points in the clusters: never increasing, between 0 and 1.

    Memory O(N D), time O(N D size iterations).

    Args:
      key: fixes the seeds.
      features: one row of numbers per pool point, any float or integer type; computed in float32,
        after a common offset that float32 could not hold is subtracted.
      size: how many points to pick.
      available: which points are clustered and may be picked; all if None.
      iterations: steps of Lloyd's algorithm; 0 leaves the seeds as they are.
    Raises:
      WrongShape, WrongSize, NonFinite (under jit such points are left out and counted in
      `nonfinite`).
    References:
      Lloyd 1982, https://doi.org/10.1109/TIT.1982.1056489; Zhdanov 2019,
      https://arxiv.org/abs/1901.05954

    >>> two_clouds = jnp.array([[0.0], [1.0], [2.0], [50.0], [51.0], [52.0], [53.0], [54.0]])
    >>> k_means(jax.random.key(0), two_clouds, 2).indices
    Array([5, 1], dtype=int32)
    """
    pool, size = points(features, size, available)
    return _k_means(_checks.key(key), pool, size, _checks.at_least(0, iterations, "iterations"))


@functools.partial(jax.jit, static_argnames="size")
def _k_means(key, pool: Points, size, iterations) -> Selection:
    found = clusters(key, pool, pool.available, size, jnp.int32(size), iterations)
    order = jnp.argsort(-found.sizes)
    total = jnp.maximum(pool.available.sum(), 1).astype(jnp.float32)

    def pick(step, carry):
        left, fresh, indices, scores = carry
        cluster = order[step]
        choices = jnp.where(jnp.any(left & fresh), left & fresh, left)
        row = jnp.argmin(
            jnp.where(choices, squared(pool.columns, found.centers[:, cluster]), jnp.inf)
        )
        some = left[row]
        indices = indices.at[step].set(jnp.where(some, row, -1))
        scores = scores.at[step].set(
            jnp.where(some, found.sizes[cluster].astype(jnp.float32) / total, -jnp.inf)
        )
        return (
            left.at[row].set(False),
            fresh & (squared(pool.columns, pool.columns[:, row]) > 0.0),
            indices,
            scores,
        )

    carry = (
        pool.available,
        jnp.ones_like(pool.available),
        jnp.full(size, -1, jnp.int32),
        jnp.full(size, -jnp.inf),
    )
    *_, indices, scores = lax.fori_loop(0, size, pick, carry)
    return Selection(indices, scores, nonfinite=pool.nonfinite)


class Clusters(NamedTuple):
    """Where k-means ended."""

    centers: Float[Array, "D k"]
    member: Int[Array, " N"]  # the cluster of each point, -1 for points that were not clustered
    sizes: Int[Array, " k"]


def clusters(key, pool: Points, members, most: int, count, iterations) -> Clusters:
    """Lloyd's algorithm on `members [N]` with `count <= most` clusters, from k-means++ seeds."""
    seeds = _k_means_pp(key, pool._replace(available=members, labeled=None), most, count).indices
    centers, real = pool.columns[:, seeds], seeds >= 0

    def sizes(member):
        return (
            jnp.zeros(most, jnp.int32).at[member].add(1, mode="drop", wrap_negative_indices=False)
        )

    def step(_, centers):
        member = jnp.where(members, _assigned(pool.columns, centers, real, count), -1)
        # deviations from the old center, because sums of the features themselves would lose the
        # digits of an offset
        deviation = jnp.where(members[None], pool.columns - centers[:, member], 0.0)
        moved = (
            jnp.zeros_like(centers)
            .at[:, member]
            .add(deviation, mode="drop", wrap_negative_indices=False)
        )
        return centers + moved / jnp.maximum(sizes(member), 1).astype(jnp.float32)[None]

    centers = lax.fori_loop(0, iterations, step, centers)
    member = jnp.where(members, _assigned(pool.columns, centers, real, count), -1)
    return Clusters(centers, member, sizes(member))


def _assigned(columns, centers, real, count) -> Int[Array, " N"]:
    """The nearest of the first `count` centers for every point, in tiles; ties go to the first."""
    rows, most = columns.shape[1], centers.shape[1]
    across, down = min(TILE, rows), min(TILE, most)

    def of_points(i, member):
        begin = jnp.minimum(i * across, rows - across)
        some = lax.dynamic_slice_in_dim(columns, begin, across, axis=1)

        def of_centers(j, best):
            first = jnp.minimum(j * down, most - down)
            far = pairwise(some, lax.dynamic_slice_in_dim(centers, first, down, axis=1))
            far = jnp.where(lax.dynamic_slice_in_dim(real, first, down)[:, None], far, jnp.inf)
            nearest = jnp.argmin(far, axis=0).astype(jnp.int32)
            distance = jnp.min(far, axis=0)
            return jnp.minimum(best[0], distance), jnp.where(
                distance < best[0], first + nearest, best[1]
            )

        start = (jnp.full(across, jnp.inf), jnp.zeros(across, jnp.int32))
        return lax.dynamic_update_slice_in_dim(
            member, lax.fori_loop(0, -(-count // down), of_centers, start)[1], begin, axis=0
        )

    return lax.fori_loop(0, -(-rows // across), of_points, jnp.zeros(rows, jnp.int32))
