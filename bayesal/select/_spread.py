"""Batches that spread out: each pick is chosen by its distance to the nearest of the centers so
far, in one loop for all of them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float, Int

from bayesal.select._points import Points, summed
from bayesal.types import Array, Key, Selection

Distances = Callable[
    [Int[Array, ""]], Float[Array, " N"]
]  # row -> squared distance of every point to that row
Choose = Callable[
    [Any, Float[Array, " N"]], Int[Array, ""]
]  # (step, weights; -inf: may not be picked) -> row


def squared(columns: Float[Array, "D N"], center: Float[Array, " D"]) -> Float[Array, " N"]:
    """Squared distances to one center, as sums of squared differences: exact zeros for copies, no
    cancellation at any offset.
    """
    return summed(lambda x, c: jnp.square(x - c), columns, center)


def pairwise(columns: Float[Array, "D n"], centers: Float[Array, "D k"]) -> Float[Array, "k n"]:
    """Squared distances between few points and few centers, as sums of squared differences: one
    feature at a time onto a table that stays in the cache, as fast as a matrix product."""
    features = columns.shape[0]
    add = lambda d, total: total + jnp.square(columns[d][None] - centers[d][:, None])
    return lax.fori_loop(0, features, add, jnp.zeros((centers.shape[1], columns.shape[1])))


def to_labeled(points: Points, distances: Distances) -> Float[Array, " N"]:
    """Squared distance to the nearest labeled point; inf where there is none."""
    nearest = jnp.full(points.available.shape, jnp.inf)
    if points.labeled is None:
        return nearest
    rows = jnp.argsort(~points.labeled)  # labeled rows first
    return lax.fori_loop(
        0, points.labeled.sum(), lambda i, near: jnp.minimum(near, distances(rows[i])), nearest
    )


def spread(
    points: Points,
    distances: Distances,
    choose: Choose,
    opening: Float[Array, " N"],
    size: int,
    stop: Any = None,
) -> Selection:
    """Picks one point after another by `choose(step, squared distance to the nearest center)`;
    labeled points and picks are centers.

    Without any center the first pick is chosen by the weights `opening`. The loop ends after `stop`
    picks (may be traced; default `size`); the rest of the batch, and what the pool cannot fill, is
    -1. Scores are distances in the caller's units, inf for a pick that had no center before it.
    """
    nearest = to_labeled(points, distances)
    alone = jnp.bool_(True) if points.labeled is None else ~points.labeled.any()

    def pick(step, carry):
        nearest, left, indices, scores = carry
        weights = jnp.where(alone & (step == 0), opening, nearest)
        row = choose(step, jnp.where(left, weights, -jnp.inf))
        some = left[row]
        indices = indices.at[step].set(jnp.where(some, row, -1))
        scores = scores.at[step].set(
            jnp.where(some, jnp.sqrt(nearest[row]) * points.unit, -jnp.inf)
        )
        nearest = jnp.where(some, jnp.minimum(nearest, distances(row)), nearest)
        return nearest, left.at[row].set(False), indices, scores

    carry = (nearest, points.available, jnp.full(size, -1, jnp.int32), jnp.full(size, -jnp.inf))
    *_, indices, scores = lax.fori_loop(0, size if stop is None else stop, pick, carry)
    return Selection(indices, scores, nonfinite=points.nonfinite)


def farthest(key: Key | None) -> Choose:
    """The highest weight; ties go to the lowest row, or to chance if there is a key."""

    def choose(step, weights):
        if key is None:
            return jnp.argmax(weights)
        luck = jax.random.uniform(jax.random.fold_in(key, step), weights.shape)
        return jnp.argmax(jnp.where(weights == jnp.max(weights), luck, -1.0))

    return choose


def sampled(key: Key) -> Choose:
    """A row drawn in proportion to its weight; where all weights are 0, any row that may be picked.

    By the largest of log weight plus Gumbel noise: no sum over the pool, so that sharding it
    changes no pick.
    """

    def choose(step, weights):
        luck = jax.random.gumbel(jax.random.fold_in(key, step), weights.shape)
        odds = jnp.log(jnp.maximum(weights, 0.0))
        odds = jnp.where(jnp.any(weights > 0.0), odds, jnp.where(weights >= 0.0, 0.0, -jnp.inf))
        return jnp.argmax(odds + luck)

    return choose
