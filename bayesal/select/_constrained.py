"""Batches under a condition beside the score: balanced over classes, without near-copies, within a
budget.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Bool, Float, Int

from bayesal import _checks, _maths, errors
from bayesal._checks import precision
from bayesal.select._points import scaled
from bayesal.types import ArrayLike, Selection


def class_balanced(
    predictions: Int[ArrayLike, " N"],
    scores: Float[ArrayLike, " N"],
    size: int,
    *,
    available: Bool[ArrayLike, " N"] | None = None,
) -> Selection:
    """Round-robin over predicted classes: the best of every class, then the second of every class,
    and so on.

    Each round is ordered by score. As long as classes have points left their numbers in the batch
    differ by at most one; a class that runs out is passed over.

    Args:
      predictions: the predicted class of every point, for example `predictive.predict(x)`.
      scores: higher is more worth labeling; -inf may not be picked.
      size: how many to pick.
      available: which points may be picked; all if None.
    Raises:
      NonFinite, WrongShape, WrongSize, ConstantScores.

    >>> class_balanced(jnp.array([0, 0, 0, 1]), jnp.array([0.9, 0.8, 0.7, 0.1]), 3).indices
    Array([0, 3, 1], dtype=int32)
    """
    scores, ranks = precision.ranked(scores)
    available = _checks.available_rows(available, scores.shape[0])
    predictions = _checks.plain(predictions, "predictions")
    if getattr(predictions, "shape", None) != scores.shape or not jnp.issubdtype(
        predictions.dtype, jnp.integer
    ):
        raise errors.WrongShape(
            "predictions",
            f"`predictions` must be integers of shape {scores.shape}, the predicted class of "
            f"every point; got shape {np.shape(predictions)}, dtype "
            f"{getattr(predictions, 'dtype', None)}. From log-probabilities [N, C]: "
            "log_probs.argmax(-1).",
        )
    size = _checks.batch_size(size, available & (scores > -jnp.inf))
    selection = _class_balanced(jnp.array(predictions), ranks, available, size)
    _checks.not_constant(selection)
    return precision.in_caller_units(selection, scores, ranks)


@functools.partial(jax.jit, static_argnames="size")
def _class_balanced(predictions, scores, available, size):
    safe, nonfinite, constant = _maths.maskable(scores, available, size)
    rows = jnp.arange(safe.shape[0])
    grouped = jnp.lexsort((-safe, predictions))  # stable: ties stay in the order of rows
    first = jnp.searchsorted(predictions[grouped], predictions[grouped], side="left")
    turn = jnp.zeros_like(rows).at[grouped].set(rows - first)  # place within the class
    order = jnp.lexsort((-safe, turn, safe == -jnp.inf))[:size].astype(jnp.int32)
    picked = safe[order]
    return Selection(
        jnp.where(picked > -jnp.inf, order, -1), picked, constant=constant, nonfinite=nonfinite
    )


def suppress_duplicates(
    features: Float[ArrayLike, "N D"],
    scores: Float[ArrayLike, " N"],
    size: int,
    *,
    radius: Any,
    available: Bool[ArrayLike, " N"] | None = None,
) -> Selection:
    """The highest scores, where a point within `radius` of an earlier pick waits until nothing else
    is left.

    Distances are Euclidean, taken from differences, so copies are at exactly 0 wherever they lie;
    `radius=0` sets only exact copies aside. One pass over the features per pick, memory O(N D).

    Args:
      features: one vector per point.
      scores: higher is more worth labeling; -inf may not be picked.
      size: how many to pick.
      radius: in the unit of the features, at least 0. It may be traced.
      available: which points may be picked; all if None.
    Returns:
      Picks in order with their own scores; points that had to wait come last.
    Raises:
      NonFinite, WrongShape, WrongSize, ConstantScores.

    >>> suppress_duplicates(
    ...     jnp.array([[0.0], [0.1], [5.0]]), jnp.array([0.9, 0.8, 0.2]), 2, radius=0.5
    ... ).indices
    Array([0, 2], dtype=int32)
    """
    scores, ranks = precision.ranked(scores)
    available = _checks.available_rows(available, scores.shape[0])
    features = _features(features, scores.shape[0], available)
    size = _checks.batch_size(size, available & (scores > -jnp.inf))
    selection = _suppress_duplicates(
        features, ranks, available, _checks.at_least_zero(radius, "radius"), size
    )
    _checks.not_constant(selection)
    return precision.in_caller_units(selection, scores, ranks)


def _features(features, count, available):
    checked = _checks.features(features)
    if checked.shape[0] != count:
        raise errors.WrongShape(
            "features",
            f"`features` has {checked.shape[0]} rows and `scores` has {count}: pass one "
            "vector per point.",
        )
    return precision.centered(features, used=available)[0] if precision.wide(features) else checked


@functools.partial(jax.jit, static_argnames="size")
def _suppress_duplicates(features, scores, available, radius, size):
    safe, nonfinite, constant = _maths.maskable(scores, available, size)
    features, unit = scaled(
        jnp.where((safe > -jnp.inf)[:, None] & jnp.isfinite(features), features, 0.0)
    )  # no square overflows or vanishes
    radius = radius / unit

    def pick(b, carry):
        left, near, indices = carry
        fresh = jnp.where(near, -jnp.inf, left)
        best = jnp.where(jnp.max(fresh) > -jnp.inf, jnp.argmax(fresh), jnp.argmax(left))
        indices = indices.at[b].set(jnp.where(left[best] > -jnp.inf, best, -1))
        apart = jnp.sum(jnp.square(features - features[best][None]), axis=1)
        return left.at[best].set(-jnp.inf), near | (apart <= jnp.square(radius)), indices

    start = (safe, jnp.zeros(safe.shape, bool), jnp.full(size, -1, jnp.int32))
    indices = lax.fori_loop(0, size, pick, start)[2]
    return Selection(
        indices,
        jnp.where(indices >= 0, safe[indices], -jnp.inf),
        constant=constant,
        nonfinite=nonfinite,
    )


def budgeted(
    gains: Float[ArrayLike, " N"],
    prices: Float[ArrayLike, " N"],
    budget: Any,
    *,
    available: Bool[ArrayLike, " N"] | None = None,
) -> Selection:
    """What to label for a budget: the better of two greedy batches, by gain per price and by gain
    alone.

    Each goes down its order and takes every point it can still pay. Gains are added up as if points
    told nothing about one another; then the batch has at least 1/2 of the highest sum of gains that
    the budget buys (for gains with diminishing returns, evaluated anew after each pick, the same
    rule guarantees (1 - 1/e) / 2). Gain per price alone guarantees nothing: a cheap trifle can shut
    out one dear treasure.

    Args:
      gains: at least 0; points of gain 0 or -inf are not bought.
      prices: above 0.
      budget: above 0, in the unit of the prices; it is kept to one part in a million. It may be
        traced.
      available: which points may be picked; all if None.
    Returns:
      As many picks as are bought, in the order of the greedy batch that won, with their gains.
      Under jit always N entries, -1 after the last.
    Raises:
      NonFinite, OutOfRange, WrongShape, OutOfRange (also where the budget buys nothing).
    References:
      Leskovec et al. 2007, https://doi.org/10.1145/1281192.1281239

    >>> # 0.3 + 0.2 for a price of 2, or 0.9 for 10
    >>> budgeted(jnp.array([0.2, 0.9, 0.3]), jnp.array([1.0, 10.0, 1.0]), 10.0).indices
    Array([1], dtype=int32)
    """
    gains = precision.held(gains, "gains")
    _checks.not_negative(gains, "gains")
    prices = _checks.positive(prices, gains.shape[0], "prices", errors.OutOfRange)
    available = _checks.available_rows(available, gains.shape[0])
    budget = _budget(budget)
    selection = _per_cost(gains, prices, budget, available)
    if not _checks.concrete(selection):
        return selection
    bought = int(np.sum(np.asarray(selection.indices) >= 0))
    if not bought:
        raise errors.OutOfRange(
            "budget",
            f"`budget` = {float(budget):g} buys no available point with a gain above 0; the "
            f"cheapest of them costs {_cheapest(gains, prices, available)}.",
        )
    return selection._replace(indices=selection.indices[:bought], scores=selection.scores[:bought])


def _budget(budget):
    number = _checks.at_least_zero(budget, "budget")
    if _checks.concrete(number) and not number > 0:
        raise errors.OutOfRange("budget", f"`budget` must be above 0, got {budget!r}.")
    return number


def _cheapest(gains, prices, available) -> str:
    worth = np.asarray(prices)[np.asarray(available & (gains > 0))]
    return f"{worth.min():g}" if len(worth) else "nothing: there is none"


@jax.jit
def _per_cost(gains, prices, budget, available):
    safe, nonfinite, _ = _maths.maskable(gains, available, 0)
    safe = jnp.where(safe >= 0, safe, -jnp.inf)
    slack = 1e-6 * budget  # ten times 0.1 is a price of 1

    def greedy(value):
        order = jnp.argsort(-value, stable=True)

        def consider(left, row):
            take = (safe[row] > 0) & (prices[row] <= left + slack)
            return jnp.where(take, left - prices[row], left), take

        taken = lax.scan(consider, budget, order)[1]
        front = jnp.argsort(~taken, stable=True)  # what is taken first, in order
        return jnp.where(taken[front], order[front], -1).astype(jnp.int32), jnp.sum(
            jnp.where(taken, safe[order], 0.0)
        )

    dense, dense_sum = greedy(safe / prices)
    large, large_sum = greedy(safe)
    indices = jnp.where(large_sum > dense_sum, large, dense)
    return Selection(indices, jnp.where(indices >= 0, safe[indices], -jnp.inf), nonfinite=nonfinite)
