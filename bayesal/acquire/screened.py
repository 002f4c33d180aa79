"""Strategies that look closely at part of the pool, and say whether the rest could
have mattered.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from bayesal import _checks, _maths, scores, select
from bayesal.acquire.ranked import CHUNK, pool_scores
from bayesal.select._lazy import certified, predicted
from bayesal.select.batch_bald import searched
from bayesal.types import Score, Selection, Strategy


class Screened(NamedTuple):
    """The candidates with the highest score, as rows of the pool, and what is known of the rest."""

    rows: Int[Array, " n"]
    available: Bool[Array, " n"]
    left_out: Float[
        Array, ""
    ]  # the highest score among available points that were left out, or -inf
    constant: Bool[Array, ""]  # whether points were left out although all had the same score
    nonfinite: Int[Array, ""]


def screen(worth: Float[Array, " N"], available: Bool[Array, " N"], candidates: int) -> Screened:
    """The `candidates` available points that are worth most."""
    safe, nonfinite, constant = _maths.maskable(worth, available, candidates)
    kept = min(candidates, worth.shape[0])
    if kept == worth.shape[0]:
        return Screened(
            jnp.arange(kept), safe > -jnp.inf, jnp.float32(-jnp.inf), jnp.bool_(False), nonfinite
        )
    rows = _maths.rank(safe, kept + 1)
    left_out = safe[rows[kept]]
    return Screened(
        rows[:kept],
        safe[rows[:kept]] > -jnp.inf,
        left_out,
        constant & (left_out > -jnp.inf),
        nonfinite,
    )


def prefilter(candidates: int, score: Score, then: Strategy, *, chunk: int = CHUNK) -> Strategy:
    """Another strategy on the `candidates` points with the highest score; its indices become rows
    of the whole pool.

    Args:
      candidates: how many points `then` may look at.
      score: what ranks the pool.
      then: the strategy for the rest.
      chunk: rows scored at a time.

    >>> strategy = prefilter(2_000, scores.entropy, then=batch_bald())
    """
    _checks.at_least(1, candidates, "candidates"), _checks.at_least(1, chunk, "chunk")
    _checks.function(score, "score", "a function of log-probabilities, such as scores.bald")
    _checks.function(then, "then", "a strategy, such as acquire.batch_bald()")

    def strategy(key, predictive, x, available, size):
        kept = screen(pool_scores(predictive, x, score, chunk), available, max(candidates, size))
        inner = then(key, predictive, x[kept.rows], kept.available, size)
        whole = kept.left_out == -jnp.inf
        gap = (
            None if inner.gap is None else jnp.where(whole, inner.gap, jnp.inf)
        )  # of the points left out nothing is known
        return outward(inner, kept)._replace(
            certified=whole if inner.certified is None else whole & inner.certified, gap=gap
        )

    return strategy


def outward(selection, kept: Screened):
    """A selection among candidates, in rows of the whole pool."""
    return selection._replace(
        indices=jnp.where(selection.indices >= 0, kept.rows[selection.indices], -1),
        constant=kept.constant
        if selection.constant is None
        else kept.constant | selection.constant,
        nonfinite=kept.nonfinite
        if selection.nonfinite is None
        else kept.nonfinite + selection.nonfinite,
    )


def grown(found: Selection, whole: Callable[[], Selection]) -> Selection:
    """What was found, if it is certified; else what is found in the whole pool."""
    search = lambda: whole()._replace(certified=jnp.bool_(True), gap=jnp.float32(0.0))
    return lax.cond(found.certified, lambda: found, search)


def batch_bald(
    *, configurations: int = 1000, candidates: int = 1000, grow: bool = False, chunk: int = CHUNK
) -> Strategy:
    """BatchBALD among the `candidates` points with the highest BALD scores.

    `Selection.certified` says whether the batch is provably the whole pool's: a gain never exceeds
    the BALD score, so it is if the smallest gain in the batch is at least the highest BALD score
    left out. If not, `Selection.gap` is how much is missing.

    Args:
      configurations: see `select.batch_bald`.
      candidates: how many points enter the joint computation; it holds K * candidates * C numbers.
      grow: search the whole pool where the candidates do not certify the batch. Points come in the
        order of their BALD scores, until no score beats the best gain; they are predicted anew
        whenever they are looked at, and nothing more is held.
      chunk: rows scored at a time.
    """
    (
        _checks.at_least(1, candidates, "candidates"),
        _checks.at_least(1, chunk, "chunk"),
        _checks.at_least(1, configurations, "configurations"),
    )

    def strategy(key, predictive, x, available, size):
        bald = pool_scores(predictive, x, scores.bald, chunk)
        kept = screen(bald, available, max(candidates, size))
        inner = select.batch_bald(
            key,
            predictive(x[kept.rows]),
            size,
            available=kept.available,
            configurations=configurations,
        )
        found = certified(outward(inner, kept), kept.left_out)
        if not grow or kept.rows.shape[0] == x.shape[0]:
            return found
        return grown(
            found,
            lambda: searched(key, predicted(predictive, x), bald, available, size, configurations),
        )

    return strategy
