"""Batches sampled without replacement, in proportion to a power, an exponential or a rank of the
score.

The best points alone are often copies of one another; chance keeps a batch diverse at no cost
beyond the scores. Each selector adds independent Gumbel noise to log-weights and ranks, which is
the same as drawing points one after another in proportion to their weights.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from bayesal import _checks, _maths
from bayesal._checks import precision
from bayesal.types import ArrayLike, Key, Selection


def power(
    key: int | Key,
    scores: Float[ArrayLike, " N"],
    size: int,
    *,
    beta: Any = 1.0,
    available: Bool[ArrayLike, " N"] | None = None,
) -> Selection:
    """Points drawn without replacement in proportion to `score^beta`.

    P(first pick = i) = s_i^beta / sum_j s_j^beta, and so on among what is left. Points of score 0
    come after every positive one, in random order; where all scores are 0 that is the uniform
    choice. PowerBALD is this with BALD scores; published at beta = 1 and beta = 8.

    Args:
      key: fixes the choice.
      scores: at least 0, with a meaningful zero, as information has; -inf may not be picked.
      size: how many to pick.
      beta: at least 0; 0 is the uniform choice among positive scores, larger is nearer to the
        highest scores. It may be traced.
      available: which points may be picked; all if None.
    Returns:
      Picks in the order drawn, with their own scores. Under jit, negative scores are counted in
      `nonfinite` and never picked.
    Raises:
      NonFinite, WrongShape, WrongSize, OutOfRange.
    References:
      Kirsch et al. 2023, https://arxiv.org/abs/2106.12059

    >>> sorted(power(jax.random.key(0), jnp.array([0.3, 0.0, 0.2]), 2).indices.tolist())
    [0, 2]
    """
    single, _ = precision.ranked(scores)
    _checks.not_negative(single)
    ratios = precision.scale_free(scores, single)
    traced_negative = (ratios < 0) & (ratios > -jnp.inf)
    safe = jnp.where(traced_negative, jnp.nan, ratios)
    selection = _select(jnp.log, key, safe, size, beta, available)
    return precision.in_caller_units(selection, single, ratios)


def softmax(
    key: int | Key,
    scores: Float[ArrayLike, " N"],
    size: int,
    *,
    beta: Any = 1.0,
    available: Bool[ArrayLike, " N"] | None = None,
) -> Selection:
    """Points drawn without replacement in proportion to `exp(beta * score)`.

    P(first pick = i) = exp(beta s_i) / sum_j exp(beta s_j), and so on among what is left. Only
    differences of scores matter, so their unit does, and any real score will do. SoftmaxBALD is
    this with BALD scores in nats; published at beta = 8.

    Args:
      key, size, available: see `power`.
      scores: higher is more worth labeling; -inf may not be picked.
      beta: at least 0, in one over the unit of the scores; 0 is the uniform choice. It may be
        traced.
    Returns:
      Picks in the order drawn, with their own scores.
    Raises:
      NonFinite, WrongShape, WrongSize.
    References:
      Kirsch et al. 2023, https://arxiv.org/abs/2106.12059

    >>> softmax(jax.random.key(0), jnp.array([-100.0, 0.0, -50.0]), 2).indices
    Array([1, 2], dtype=int32)
    """
    return _select(_itself, key, precision.held(scores), size, beta, available)


def softrank(
    key: int | Key,
    scores: Float[ArrayLike, " N"],
    size: int,
    *,
    beta: Any = 1.0,
    available: Bool[ArrayLike, " N"] | None = None,
) -> Selection:
    """Points drawn without replacement in proportion to `rank^-beta`, where the highest score has
    rank 1.

    P(first pick = i) = r_i^-beta / sum_j r_j^-beta, and so on among what is left, with the ranks of
    the start. Only the order of the scores matters. Equal scores share their mean rank, so that no
    row is preferred to its copy.

    Args:
      key, scores, size, available: see `softmax`.
      beta: at least 0; 0 is the uniform choice. It may be traced.
    Returns:
      Picks in the order drawn, with their own scores.
    Raises:
      NonFinite, WrongShape, WrongSize.
    References:
      Kirsch et al. 2023, https://arxiv.org/abs/2106.12059

    >>> softrank(jax.random.key(0), jnp.array([0.1, 0.9, 0.5]), 1, beta=100.0).indices
    Array([1], dtype=int32)
    """
    scores, ranks = precision.ranked(scores)
    selection = _select(_softrank, key, ranks, size, beta, available)
    return precision.in_caller_units(selection, scores, ranks)


def _itself(scores):
    return scores


def _softrank(scores):
    order = jnp.sort(scores)
    below, up_to = (jnp.searchsorted(order, scores, side=side) for side in ("left", "right"))
    return -jnp.log(
        (scores.shape[0] - up_to).astype(jnp.float32)
        + 0.5 * (1 + up_to - below).astype(jnp.float32)
    )


def _select(log_weight, key, scores, size, beta, available) -> Selection:
    available = _checks.available_rows(available, scores.shape[0])
    size = _checks.batch_size(size, available & (scores > -jnp.inf))
    return _drawn(
        log_weight, _checks.key(key), scores, available, _checks.at_least_zero(beta, "beta"), size
    )


@functools.partial(jax.jit, static_argnames=("log_weight", "size"))
def _drawn(log_weight, key, scores, available, beta, size):
    safe, nonfinite, _ = _maths.maskable(scores, available, size)
    weight = log_weight(safe)
    # weight 0 is a tier of its own: no finite number is surely below every noisy log-weight
    tier = jnp.where(safe == -jnp.inf, 2, jnp.where(weight == -jnp.inf, 1, 0))
    top = jnp.max(jnp.where(tier == 0, weight, -jnp.inf), initial=-jnp.inf)
    strength = jnp.where(
        tier == 0, beta * jnp.where(tier == 0, weight - top, 0.0), 0.0
    )  # from the top: noise keeps its digits there
    noisy = strength + jax.random.gumbel(
        key, safe.shape, mode="high"
    )  # "low" has 2^23 values: too few for the best of millions
    order = jnp.lexsort((-noisy, tier))[:size]
    found = tier[order] < 2
    return Selection(
        jnp.where(found, order, -1).astype(jnp.int32), safe[order], nonfinite=nonfinite
    )
