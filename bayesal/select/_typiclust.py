"""TypiClust: the most typical points of the clusters that have no label yet."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float, Int, Real

from bayesal import _checks
from bayesal.select._clusters import clusters
from bayesal.select._points import Points, points
from bayesal.select._spread import pairwise, squared, to_labeled
from bayesal.types import Array, ArrayLike, Key, Selection

NEIGHBORS = 20  # over which the distance is averaged, as published
MOST_CLUSTERS = 500  # as published
MOST_COMPARED = 1000  # members of a cluster among which neighbors are looked for
BLOCK = 128  # points that are compared with each other at a time


def typiclust(
    key: int | Key,
    features: Real[ArrayLike, "N D"],
    size: int,
    *,
    available: Bool[ArrayLike, " N"] | None = None,
    labeled: Bool[ArrayLike, " N"] | None = None,
    iterations: int = 10,
) -> Selection:
    """TypiClust: the most typical points of the largest clusters that have no label yet. For very
    small budgets.

    The available and the labeled points are clustered by k-means into as many clusters as there are
    labeled points plus `size` (at most 500). Each pick comes from the cluster with the fewest
    labeled and picked points, the largest of them if several, and is its available point of highest
    typicality, 1 / (mean distance to its 20 nearest neighbors in the cluster, or to all others of a
    smaller one); a point alone has typicality 0, one of 21 copies inf. Copies of labeled points and
    of picks wait until nothing else is left. Neighbors in a cluster of more than 1,000 points are
    looked for among 1,000 of them, drawn by the key. `scores` are the typicalities, in the order of
    picking.

    Memory O(N D), time O(N D (clusters iterations + 1000)).

    Args:
      key: fixes the seeds of the clusters.
      features: one row of numbers per pool point, best self-supervised; any float or integer type,
        computed in float32, after a common offset that it could not hold is subtracted.
      size: how many points to pick.
      available: which points may be picked; all if None.
      labeled: which points have a label already: their clusters wait, and they are never picked;
        none if None.
      iterations: steps of Lloyd's algorithm.
    Raises:
      WrongShape, WrongSize, NonFinite (under jit such points are left out and counted in
      `nonfinite`).
    References:
      Hacohen et al. 2022, https://arxiv.org/abs/2202.02794

    >>> two_clouds = jnp.array([[0.0], [1.0], [2.0], [50.0], [51.0], [52.0], [53.0], [54.0]])
    >>> typiclust(jax.random.key(0), two_clouds, 1, labeled=jnp.arange(8) == 4).indices
    Array([1], dtype=int32)
    """
    pool, size = points(features, size, available, labeled)
    return _typiclust(_checks.key(key), pool, size, _checks.at_least(0, iterations, "iterations"))


@functools.partial(jax.jit, static_argnames="size")
def _typiclust(key, pool: Points, size, iterations) -> Selection:
    labeled = jnp.zeros_like(pool.available) if pool.labeled is None else pool.labeled
    members = pool.available | labeled
    most = min(max(MOST_CLUSTERS, size), pool.available.shape[0])
    count = jnp.minimum(labeled.sum() + size, most)
    for_clusters, for_neighbors = jax.random.split(key)
    found = clusters(for_clusters, pool, members, most, count, iterations)
    typical = _typicality(for_neighbors, pool.columns, found.member)

    apart = lambda row: squared(pool.columns, pool.columns[:, row])

    def pick(step, carry):
        left, fresh, covered, indices, scores = carry
        choices = jnp.where(jnp.any(left & fresh), left & fresh, left)
        waiting = (
            jnp.zeros(most, bool)
            .at[found.member]
            .max(choices, mode="drop", wrap_negative_indices=False)
        )
        fewest = jnp.min(jnp.where(waiting, covered, jnp.iinfo(jnp.int32).max))
        cluster = jnp.argmax(jnp.where(waiting & (covered == fewest), found.sizes, -1))
        row = jnp.argmax(jnp.where(choices & (found.member == cluster), typical, -1.0))
        some = left[row]
        indices = indices.at[step].set(jnp.where(some, row, -1))
        scores = scores.at[step].set(jnp.where(some, typical[row] / pool.unit, -jnp.inf))
        return (
            left.at[row].set(False),
            fresh & (apart(row) > 0.0),
            covered.at[cluster].add(1),
            indices,
            scores,
        )

    covered = (
        jnp.zeros(most, jnp.int32).at[jnp.where(labeled, found.member, most)].add(1, mode="drop")
    )
    carry = (
        pool.available,
        to_labeled(pool, apart) > 0.0,
        covered,
        jnp.full(size, -1, jnp.int32),
        jnp.full(size, -jnp.inf),
    )
    *_, indices, scores = lax.fori_loop(0, size, pick, carry)
    return Selection(indices, scores, nonfinite=pool.nonfinite)


def _typicality(
    key: Key, columns: Float[Array, "D N"], member: Int[Array, " N"]
) -> Float[Array, " N"]:
    """Of every point within its cluster: the points sorted by cluster, each block of them against
    the stretch of its clusters.
    """
    rows = member.shape[0]
    block = min(BLOCK, rows)
    luck = jax.random.permutation(key, rows)
    order = luck[jnp.argsort(member[luck])]  # by cluster, in random order within
    columns, member = columns[:, order], member[order]
    start = jnp.searchsorted(member, member)
    end = jnp.minimum(jnp.searchsorted(member, member, side="right"), start + MOST_COMPARED)

    def one(i, typical):
        here = jnp.minimum(i * block + jnp.arange(block), rows - 1)
        real = member[here] >= 0
        low = jnp.min(jnp.where(real, start[here], rows))
        high = jnp.max(jnp.where(real, end[here], 0))

        def compare(j, nearest):
            there = jnp.minimum(low + j * block + jnp.arange(block), rows - 1)
            inside = (
                (there[None] >= start[here][:, None])
                & (there[None] < end[here][:, None])
                & (there[None] != here[:, None])
            )
            fresh = (low + j * block + jnp.arange(block) < rows)[None]
            far = pairwise(columns[:, there], columns[:, here])
            both = jnp.concatenate([nearest, jnp.where(inside & fresh, far, jnp.inf)], axis=1)
            return -lax.top_k(-both, NEIGHBORS)[0]

        nearest = lax.fori_loop(
            0,
            -(-jnp.maximum(high - low, 0) // block),
            compare,
            jnp.full((block, NEIGHBORS), jnp.inf),
        )
        found = nearest < jnp.inf
        count = found.sum(axis=1).astype(jnp.float32)
        total = jnp.where(found, jnp.sqrt(nearest), 0.0).sum(axis=1)
        return typical.at[order[here]].set(jnp.where(count > 0, count / total, 0.0))

    return lax.fori_loop(0, -(-rows // block), one, jnp.zeros(rows))
