"""Selectors that rank points one by one: by a score, or by chance."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from bayesal import _checks, _maths
from bayesal._checks import precision
from bayesal.types import Array, ArrayLike, Key, Selection


def top(
    scores: Float[ArrayLike, " N"], size: int, *, available: Bool[ArrayLike, " N"] | None = None
) -> Selection:
    """The `size` points with the highest scores; ties go to the lowest row.

    Args:
      scores: higher is more worth labeling; -inf may not be picked.
      size: how many to pick.
      available: which points may be picked; all if None.
    Raises:
      NonFinite: a score is NaN or +inf. WrongSize: fewer than `size` points are available.
        ConstantScores: all
      available scores are the same and there is something to choose.

    >>> top(jnp.array([0.1, 0.7, 0.3]), 2).indices
    Array([1, 2], dtype=int32)
    """
    scores, ranks = precision.ranked(scores)
    available = _checks.available_rows(available, scores.shape[0])
    _checks.batch_size(size, available & (scores > -jnp.inf))
    selection = _top(ranks, available, size)
    _checks.not_constant(selection)
    return precision.in_caller_units(selection, scores, ranks)


@functools.partial(jax.jit, static_argnames="size")
def _top(scores, available, size):
    safe, nonfinite, constant = _maths.maskable(scores, available, size)
    indices = _maths.rank(safe, size)
    picked = safe[indices]
    return Selection(
        jnp.where(picked > -jnp.inf, indices, -1), picked, constant=constant, nonfinite=nonfinite
    )


def uniform(
    key: int | Key, rows: int, size: int, *, available: Bool[ArrayLike, " N"] | None = None
) -> Selection:
    """`size` different points at random: the baseline every strategy must beat. All scores are 0.

    Args:
      key: fixes the choice.
      rows: how many points the pool has.
      size: how many to pick.
      available: which points may be picked; all if None.

    >>> sorted(uniform(jax.random.key(0), 3, 3).indices.tolist())
    [0, 1, 2]
    """
    available = _checks.available_rows(available, _checks.at_least(1, rows, "rows"))
    size = _checks.batch_size(size, available)
    return _uniform(_checks.key(key), available, size)


@functools.partial(jax.jit, static_argnames="size")
def _uniform(key: Key, available: Bool[Array, " N"], size: int) -> Selection:
    order = jnp.where(available, jax.random.uniform(key, available.shape), -jnp.inf)
    indices = _maths.rank(order, size)
    return Selection(jnp.where(order[indices] > -jnp.inf, indices, -1), jnp.zeros(size))
