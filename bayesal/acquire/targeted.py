"""Strategies that ask for what helps to predict targets: points of the pool, or points that stand for later use."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import checks, scores, select
from bayesal.acquire.ranked import CHUNK, pool_scores
from bayesal.acquire.screened import outward, screen
from bayesal.types import ArrayLike, Strategy


def _targets(key, predictive, x, targets):
    """Predictions at the targets, by the predictive's own draws."""
    if not isinstance(targets, int):
        return predictive(jnp.asarray(targets))
    return predictive(x[jax.random.choice(key, x.shape[0], (min(targets, x.shape[0]),), replace=False)])


def _checked(targets, chunk):
    checks.at_least(1, chunk, "chunk")
    return checks.at_least(1, targets, "targets") if not hasattr(targets, "shape") else targets


def epig(targets: int | ArrayLike = 200, *, weights: Float[ArrayLike, " T"] | None = None, chunk: int = CHUNK) -> Strategy:
    """The points with the highest EPIG, each for itself.

    Args:
      targets: how many points of the pool, drawn at random, stand for what will be asked later; or these points themselves,
        an array [T, ...] (it becomes a constant of the program).
      weights: how much each target matters; see `scores.epig`.
      chunk: rows scored at a time.
    """
    targets = _checked(targets, chunk)

    def strategy(key, predictive, x, available, size):
        seen = _targets(key, predictive, x, targets)
        return select.top(pool_scores(predictive, x, lambda part: scores.epig(part, seen, weights=weights), chunk), size, available=available)

    return strategy


def batch_epig(
    targets: int | ArrayLike = 200, *, weights: Float[ArrayLike, " T"] | None = None, configurations: int = 2000, candidates: int = 1000,
    chunk: int = CHUNK,
) -> Strategy:
    """Batch EPIG among the `candidates` points with the highest EPIG.

    `Selection.certified` says whether every available point was a candidate.

    Args:
      targets, weights: see `epig`.
      configurations: see `select.batch_epig`.
      candidates: how many points enter the joint computation.
      chunk: rows scored at a time.
    """
    targets = _checked(targets, chunk)
    checks.at_least(1, candidates, "candidates"), checks.at_least(1, configurations, "configurations")

    def strategy(key, predictive, x, available, size):
        target_key, key = jax.random.split(key)
        seen = _targets(target_key, predictive, x, targets)
        kept = screen(predictive, x, available, max(candidates, size), lambda part: scores.epig(part, seen, weights=weights), chunk)
        inner = select.batch_epig(
            key, predictive(x[kept.rows]), seen, size, weights=weights, available=kept.available, configurations=configurations)
        return outward(inner, kept)._replace(certified=kept.left_out == -jnp.inf)

    return strategy
