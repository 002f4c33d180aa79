"""A fair sample among labels that were chosen: rows of the pool in one random order, audited from
the front.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from bayesal import errors
from bayesal.types import Array, Key, Selection

LOTS = 2**31 - 1  # folded into a learner's first key, where rounds are folded in as 0, 1, 2, ...


def per_batch(share: float, size: int) -> int:
    """How many of a batch's points are an audit's: the nearest whole number to the share, 1 at
    least, and not all.

    >>> per_batch(0.0, 10), per_batch(0.1, 10), per_batch(0.1, 4), per_batch(0.9, 4)
    (0, 1, 1, 3)
    """
    number = isinstance(share, int | float | np.number) and not isinstance(share, bool)
    if not number or not 0 <= share < 1:
        raise errors.OutOfRange(
            "audit",
            f"`audit` must be a share of the batch in [0, 1), got {share!r}. To pick "
            "everything at random use acquire.uniform().",
        )
    if share and size < 2:
        raise errors.WrongSize(
            "audit",
            f"`audit` = {share} needs batches of 2 points or more, and `size` is {size}: one "
            "point is drawn at random in every batch.",
        )
    return min(max(round(share * size), 1), size - 1) if share else 0


def lots(key: Key, rows: int) -> Float[Array, " N"]:
    """A random number for each row of the pool, the same in every round: rows are audited from the
    lowest on.
    """
    return jax.random.uniform(jax.random.fold_in(key, LOTS), (rows,))


def draw(lot: Float[Array, " N"], free: Bool[Array, " N"], size: int) -> Int[Array, " size"]:
    """The next rows to audit: the lowest lots among rows without a label; -1 where none are left.

    >>> draw(jnp.array([0.3, 0.1, 0.2]), jnp.array([True, False, True]), 3).tolist()
    [2, 0, -1]
    """
    drawn = jax.lax.top_k(jnp.where(free, -lot, -jnp.inf), min(size, lot.shape[0]))[1]
    return jnp.where(free[drawn], drawn, -1)


def fair(
    lot: Float[Array, " N"], free: Bool[Array, " N"], rows: Int[Array, " M"]
) -> Bool[Array, " M"]:
    """Which of some labeled rows are the audit: those of a lower lot than any row without a label.

    All rows up to there have labels, and whoever chose rows did not know the lots: a uniform sample
    of the pool, whatever else is labeled.

    >>> fair(
    ...     jnp.array([0.3, 0.1, 0.2]), jnp.array([False, False, True]), jnp.array([0, 1])
    ... ).tolist()
    [False, True]
    """
    return lot[rows] < jnp.min(jnp.where(free, lot, jnp.inf))


def before(drawn: Int[Array, " A"], picked: Selection) -> Selection:
    """A batch that begins with the audit: whoever answers only part of it answers those first."""
    put = lambda value, rest: (
        None if rest is None else jnp.concatenate([jnp.full(drawn.shape, value, rest.dtype), rest])
    )
    audit = jnp.arange(drawn.shape[0] + picked.indices.shape[0]) < drawn.shape[0]
    return picked._replace(
        indices=jnp.concatenate([drawn.astype(picked.indices.dtype), picked.indices]),
        # `shown` says NaN, which `jax_debug_nans` would not let pass
        scores=jnp.concatenate([jnp.zeros(drawn.shape, picked.scores.dtype), picked.scores]),
        joint=put(0.0, picked.joint),
        saturated=put(False, picked.saturated),
        audit=audit,
    )


def shown(selection: Selection) -> Selection:
    """A selection as people get it: the audit's picks have no score."""
    if selection.audit is None:
        return selection
    scores = np.where(np.asarray(selection.audit), np.nan, np.asarray(selection.scores))
    return selection._replace(scores=scores)
