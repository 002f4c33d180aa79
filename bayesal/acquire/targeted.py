"""Strategies that ask for what helps to predict targets: points of the pool, or points that stand
for later use.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _checks, _maths, select
from bayesal.acquire.ranked import CHUNK
from bayesal.acquire.screened import grown, outward, screen
from bayesal.scores.epig import ceiling, checked_target, spread
from bayesal.select._lazy import certified, predicted
from bayesal.select.batch_epig import bounds, highest, searched
from bayesal.types import ArrayLike, Strategy


def _targets(key, predictive, x, targets):
    """Predictions at the targets, by the predictive's own draws."""
    if not isinstance(targets, int):
        return predictive(jnp.asarray(targets))
    return predictive(
        x[jax.random.choice(key, x.shape[0], (min(targets, x.shape[0]),), replace=False)]
    )


def _checked(targets, chunk):
    _checks.at_least(1, chunk, "chunk")
    if not hasattr(targets, "shape"):
        return _checks.at_least(1, targets, "targets")
    _checks.finite(targets, "targets")
    return targets


def epig(
    targets: int | ArrayLike = 200,
    *,
    weights: Float[ArrayLike, " T"] | None = None,
    chunk: int = CHUNK,
) -> Strategy:
    """The points with the highest EPIG, each for itself.

    Only points that could be among them are evaluated: those whose bound on EPIG (see
    `select.batch_epig`) beats what was found.

    Args:
      targets: how many points of the pool, drawn at random, stand for what will be asked later; or
        these points themselves, an array [T, ...] (it becomes a constant of the program).
      weights: how much each target matters; see `scores.epig`.
      chunk: rows looked at at a time.
    """
    targets = _checked(targets, chunk)

    def strategy(key, predictive, x, available, size):
        pool = predicted(predictive, x)
        target = checked_target(_targets(key, predictive, x, targets), weights, pool.shape[0])
        matrix = spread(*target)
        bound = pool.over(lambda part: ceiling(part, matrix), chunk)
        safe, nonfinite, constant = _maths.maskable(bound, available, size)
        gain, seen = highest(pool, *target, safe, size)
        picked = select.top(jnp.where(seen, gain, -jnp.inf), size, available=available)
        evaluated = jnp.sum(seen, dtype=jnp.float32) / jnp.maximum(
            jnp.sum(safe > -jnp.inf, dtype=jnp.float32), 1.0
        )
        return picked._replace(
            nonfinite=nonfinite, constant=constant & (picked.scores[0] <= 0.0), evaluated=evaluated
        )

    return strategy


def batch_epig(
    targets: int | ArrayLike = 200,
    *,
    weights: Float[ArrayLike, " T"] | None = None,
    configurations: int = 1000,
    candidates: int = 1000,
    grow: bool = False,
    chunk: int = CHUNK,
) -> Strategy:
    """Batch EPIG among the `candidates` points with the highest bound on EPIG, which orders points
    nearly as EPIG does and costs much less.

    `Selection.certified` says whether no point left out could have entered the batch: gains never
    exceed BALD scores, so none could if the smallest gain in the batch is at least the highest BALD
    score left out. Gains about targets are far below BALD as a rule, so `certified` is rarely true,
    and `Selection.gap` (how much is missing) far above what a point left out would really gain.

    Args:
      targets, weights: see `epig`.
      configurations: see `select.batch_epig`.
      candidates: how many points enter the joint computation; it holds K * candidates * C numbers.
      grow: search the whole pool where the candidates do not certify the batch. It is predicted
        once for every pick, and nothing more is held.
      chunk: rows looked at at a time.
    """
    targets = _checked(targets, chunk)
    (
        _checks.at_least(1, candidates, "candidates"),
        _checks.at_least(1, configurations, "configurations"),
    )

    def strategy(key, predictive, x, available, size):
        target_key, key = jax.random.split(key)
        pool = predicted(predictive, x)
        target = checked_target(
            _targets(target_key, predictive, x, targets), weights, pool.shape[0]
        )
        bound, bald = bounds(pool, *target, chunk)
        kept = screen(bound, available, max(candidates, size))
        inner = select.batch_epig(
            key,
            predictive(x[kept.rows]),
            target[0],
            size,
            weights=target[1],
            available=kept.available,
            configurations=configurations,
        )
        left = _maths.maskable(bald, available, size)[0].at[kept.rows].set(-jnp.inf)
        found = certified(outward(inner, kept), jnp.max(left))
        if not grow or kept.rows.shape[0] == x.shape[0]:
            return found
        return grown(
            found, lambda: searched(key, pool, *target, available, size, configurations, chunk)
        )

    return strategy
