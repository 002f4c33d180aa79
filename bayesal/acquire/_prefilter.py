"""Another strategy on the best rows by a score, with word on whether the rest could
have mattered.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from bayesal import _checks, _maths, _shown
from bayesal.acquire import _asked
from bayesal.acquire._ranking import score_of
from bayesal.types import Array, Score, Selection, Strategy


class Candidates(NamedTuple):
    """The candidates with the highest score, as rows of the pool, and what is known of the rest."""

    rows: Int[Array, " n"]
    available: Bool[Array, " n"]
    left_out: Float[Array, ""]  # the highest score among available points left out, or -inf
    constant: Bool[Array, ""]  # whether points were left out although all had the same score
    nonfinite: Int[Array, ""]


@_shown.named
def prefilter(candidates: int, score: Score, then: Strategy) -> Strategy:
    """Another strategy, on the `candidates` points with the highest score.

    Its indices are rows of the whole pool. `Selection.certified` is true only where every available
    point was a candidate. What `then` measures, it measures on candidates alone.

    Args:
      candidates: how many points `then` may choose from; at least `size` are kept.
      score: what ranks the pool.
      then: the strategy for the rest.
    Raises:
      WrongSize, WrongType.

    >>> from bayesal import acquire, scores
    >>> strategy = prefilter(2_000, scores.entropy, then=acquire.batch_bald())
    """
    _checks.at_least(1, candidates, "candidates")
    score_of(score)
    _checks.a(Strategy, then, "then", "acquire.batch_bald()")

    def measure(aux, predictive, x):
        del aux
        return _asked.scored(score, predictive(x))

    def pick(key, aux, measured, again, available, size):
        kept = best(measured, available, max(candidates, size))
        closer = again.among(kept.rows)
        inner = then.pick(key, aux, closer.measured(then, aux), closer, kept.available, size)
        whole = kept.left_out == -jnp.inf
        certified = whole if inner.certified is None else whole & inner.certified
        # of the points left out nothing is known: a gap is bounded only where there are none
        gap = None if inner.gap is None else jnp.where(whole, inner.gap, jnp.inf)
        return outward(inner, kept)._replace(certified=certified, gap=gap)

    return then._replace(measure=measure, pick=pick)


def best(values: Float[Array, " N"], available: Bool[Array, " N"], candidates: int) -> Candidates:
    """The `candidates` available points of the highest values."""
    return _best(values, available, min(candidates, values.shape[0]))


@functools.partial(jax.jit, static_argnames="kept")
def _best(values, available, kept) -> Candidates:
    safe, nonfinite, constant = _maths.maskable(values, available, kept)
    if kept == values.shape[0]:
        return Candidates(
            rows=jnp.arange(kept),
            available=safe > -jnp.inf,
            left_out=jnp.float32(-jnp.inf),
            constant=jnp.bool_(False),
            nonfinite=nonfinite,
        )
    rows = _maths.rank(safe, kept + 1)
    left_out = safe[rows[kept]]
    return Candidates(
        rows=rows[:kept],
        available=safe[rows[:kept]] > -jnp.inf,
        left_out=left_out,
        constant=constant & (left_out > -jnp.inf),
        nonfinite=nonfinite,
    )


def outward(inner: Selection, kept: Candidates) -> Selection:
    """A selection among candidates, in rows of the whole pool."""
    nonfinite, constant = kept.nonfinite, kept.constant
    return inner._replace(
        indices=jnp.where(inner.indices >= 0, kept.rows[inner.indices], -1),
        constant=constant if inner.constant is None else constant | inner.constant,
        nonfinite=nonfinite if inner.nonfinite is None else nonfinite + inner.nonfinite,
    )
