"""Several scores of the same points made into one.

A `-inf` in any score is a gate: the point stays ruled out whatever the weights, a weight of 0
included. Ranks and spreads are taken over the points that pass every gate (and are available), so
ruled-out points, padding and labeled rows change nothing. They are taken over what is passed in:
pass the scores of the whole pool, not of one chunk.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from bayesal import _checks, _chunks, _maths, errors
from bayesal._checks import precision
from bayesal.types import Array, ArrayLike

__all__ = [
    "pareto",
    "product",
    "rank_sum",
    "z_score",
]

CHUNK = 256  # points compared with the whole pool at a time


def rank_sum(
    *scores: Float[ArrayLike, " N"],
    weights: Sequence[Any] | None = None,
    available: Bool[ArrayLike, " N"] | None = None,
) -> Float[Array, " N"]:
    """Weighted sum of ranks: only the order within each score matters.

    sum_i w_i r_i, where r_i = (points below + half of the other points that are level) / (n - 1)
    lies in [0, 1], 1 for the highest.

    Args:
      scores: one or more, each one number per point; -inf may not be picked.
      weights: one number >= 0 per score; all 1 if None.
      available: points that count; all if None.
    Returns:
      Between 0 and the sum of the weights; -inf where any score is, or where a point is not
      available.
    Raises:
      NonFinite, WrongShape, WrongSize.
    References:
      Borda 1781; as a combination of queries: Settles 2009, section 7.

    >>> rank_sum(jnp.array([0.1, 0.2, 9.0]), jnp.array([3.0, 5.0, 4.0]))
    Array([0. , 1.5, 1.5], dtype=float32)
    """
    return _weighted(_rank_sum, scores, weights, available, by_rank=True)


def z_score(
    *scores: Float[ArrayLike, " N"],
    weights: Sequence[Any] | None = None,
    available: Bool[ArrayLike, " N"] | None = None,
) -> Float[Array, " N"]:
    """Weighted sum of standardized scores: each has mean 0 and standard deviation 1 over the points
    that count.

    sum_i w_i (s_i - mean) / std. A score that is the same for every point adds 0.

    Args:
      scores, weights, available: see `rank_sum`.
    Returns:
      Standard deviations (no unit); -inf where any score is, or where a point is not available.
    Raises:
      NonFinite, WrongShape, WrongSize.

    >>> z_score(jnp.array([1.0, 3.0, -jnp.inf]), jnp.array([7.0, 7.0, 0.0]))
    Array([ -1.,   1., -inf], dtype=float32)
    """
    return _weighted(_z_score, scores, weights, available)


def product(
    *scores: Float[ArrayLike, " N"],
    weights: Sequence[Any] | None = None,
    available: Bool[ArrayLike, " N"] | None = None,
) -> Float[Array, " N"]:
    """Weighted geometric mean: ranks as the product of powers `s_i^w_i` does, and never underflows.

    exp(sum_i w_i log s_i / sum_i w_i);  between the lowest and the highest s_i. A score of 0 makes
    it 0, unless its weight is 0. With a density as second score this is information density.

    Args:
      scores: one or more, each >= 0; -inf may not be picked.
      weights, available: see `rank_sum`.
    Returns:
      The unit of the scores, if they share one; -inf where any score is, or where a point is not
      available.
    Raises:
      NonFinite, OutOfRange, WrongShape, WrongSize.
    References:
      Settles & Craven 2008, https://aclanthology.org/D08-1112

    >>> product(jnp.array([4.0, 0.0]), jnp.array([1.0, 5.0]))
    Array([2., 0.], dtype=float32)
    """
    for i, values in enumerate(scores):
        _checks.not_negative(_checks.scores(values, f"scores[{i}]")[0], f"scores[{i}]")
    return _weighted(_product, scores, weights, available)


def pareto(
    *scores: Float[ArrayLike, " N"], available: Bool[ArrayLike, " N"] | None = None
) -> Float[Array, " N"]:
    """Minus the number of points that dominate a point: at least as high in every score and higher
    in one.

    Points of the Pareto front come first, and a point always comes after those that dominate it.
    Among points dominated by equally many, the mean rank over the scores decides (it adds less than
    1). No weights, no units. It compares every pair of points, 256 against all at a time: N^2
    operations, memory O(256 N).

    Args:
      scores, available: see `rank_sum`.
    Returns:
      In (-N, 1); -inf where any score is, or where a point is not available.
    Raises:
      NonFinite, WrongShape, WrongSize.

    >>> # two on the front, one behind both
    >>> pareto(jnp.array([1.0, 3.0, 0.0]), jnp.array([3.0, 1.0, 0.0])).round(2)
    Array([ 0.38,  0.38, -2.  ], dtype=float32)
    """
    return _weighted(_pareto, scores, None, available, by_rank=True)


Combination = Callable[
    [Float[Array, "S N"], Float[Array, " S"], Bool[Array, " N"]], Float[Array, " N"]
]


def _weighted(
    kernel: Combination, scores, weights, available, by_rank: bool = False
) -> Float[Array, " N"]:
    if not scores:
        raise errors.WrongSize("scores", "`scores` is empty: pass at least one score vector.")
    order = lambda values, name: precision.ranked(values, name)[1]
    of = order if by_rank else precision.held
    vectors = [of(values, f"scores[{i}]") for i, values in enumerate(scores)]
    for i, values in enumerate(vectors):
        if values.shape != vectors[0].shape:
            raise errors.WrongShape(
                f"scores[{i}]",
                f"`scores[{i}]` has {values.shape[0]} points and `scores[0]` has "
                f"{vectors[0].shape[0]}: all must score the same pool.",
            )
    available = _checks.available_rows(available, vectors[0].shape[0])
    return _combined(kernel, jnp.stack(vectors), _weights(weights, len(vectors)), available)


def _weights(weights, count) -> Float[Array, " S"]:
    if weights is None:
        return jnp.ones(count)
    if len(weights) != count:
        raise errors.WrongShape(
            "weights",
            f"`weights` has {len(weights)} entries for {count} scores; pass one per score.",
        )
    checked = [_checks.at_least_zero(weight, "weights") for weight in weights]
    if _checks.concrete(checked) and not any(weight > 0 for weight in checked):
        raise errors.WrongSize("weights", "`weights` are all 0: nothing would be left to rank by.")
    return jnp.stack(checked)


def _combined_kernel(kernel: Combination, scores, weights, available):
    gated = ~available | (scores == -jnp.inf).any(axis=0)
    counts = ~gated & jnp.isfinite(scores).all(axis=0)
    # a broken score stays visible to the selector, which counts it; it takes no part in ranks and
    # spreads
    return jnp.where(
        counts,
        kernel(jnp.where(counts[None], scores, 0.0), weights, counts),
        jnp.where(gated, -jnp.inf, jnp.nan),
    )


_combined = jax.jit(_combined_kernel, static_argnums=0)


def _ranks(values: Float[Array, " N"], counts: Bool[Array, " N"]) -> Float[Array, " N"]:
    """In [0, 1] among the points that count, level points sharing their mean rank; 0 where there is
    only one.
    """
    order = jnp.sort(jnp.where(counts, values, jnp.inf))
    below, up_to = (
        jnp.searchsorted(order, values, side=side).astype(jnp.float32) for side in ("left", "right")
    )
    return (below + 0.5 * (up_to - below - 1.0)) / jnp.maximum(counts.sum() - 1, 1).astype(
        jnp.float32
    )


def _sum(weights: Float[Array, " S"], parts: Float[Array, "S N"]) -> Float[Array, " N"]:
    return _maths.tree_sum(
        weights[:, None] * parts, 0
    )  # a matrix product would be rounded coarsely on some accelerators


def _rank_sum(scores, weights, counts):
    return _sum(weights, jax.vmap(_ranks, (0, None))(scores, counts))


def _z_score(scores, weights, counts):
    several = jnp.maximum(counts.sum(), 1).astype(jnp.float32)

    def standardized(values):
        low = jnp.min(jnp.where(counts, values, jnp.inf), initial=jnp.inf)
        high = jnp.max(jnp.where(counts, values, -jnp.inf), initial=-jnp.inf)
        varied = low < high
        # measured in half the range: squares neither overflow nor vanish, in any unit
        off = jnp.where(
            counts & varied, (values - low) / jnp.where(varied, 0.5 * (high - low), 1.0), 0.0
        )
        off = jnp.where(counts, off - _maths.tree_sum(off, 0) / several, 0.0)
        spread = jnp.sqrt(_maths.tree_sum(jnp.square(off), 0) / several)
        return jnp.where(varied, off / jnp.where(varied, spread, 1.0), 0.0)

    return _sum(weights, jax.vmap(standardized)(scores))


def _product(scores, weights, counts):
    del counts  # each point for itself
    share = (weights / weights.sum())[:, None]
    none = scores == 0  # log 0 has no finite slope
    log = jnp.where(none, -jnp.inf, jnp.log(jnp.where(none, 1.0, scores)))
    logs = jnp.where(share > 0, jnp.where(share > 0, share, 1.0) * log, 0.0)
    return jnp.exp(_maths.tree_sum(logs, 0))


def _pareto(scores, weights, counts):
    mean_rank = _rank_sum(scores, weights, counts) / weights.sum()
    points = scores.T  # [N, S]

    def dominating(part):
        above = (points[None] >= part[:, None]).all(-1) & (points[None] > part[:, None]).any(-1)
        return jnp.sum(above & counts[None], axis=1)

    return 0.5 * mean_rank - _chunks.over_rows(dominating, points, CHUNK).astype(jnp.float32)


def __dir__() -> list[str]:
    return __all__
