"""A batch and the utilities of a whole pool behind it, as scikit-activeml wants them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _chunks, _maths, _random, errors
from bayesal._warnings import warn
from bayesal.acquire import uniform
from bayesal.integrations import _draws
from bayesal.select import _configurations as labels
from bayesal.types import About, Array, Key, Pool, Selection

CONFIGURATIONS = 1000  # label configurations behind utilities after picks, as of `batch_bald`
ALIKE = 1e-6  # in probability
CHANCE = uniform()
ROWS = 1024  # rows whose utilities are computed at a time


def picked(key: Key, pool: Pool, size: int, strategy: Any) -> tuple[Selection, Any]:
    """A batch; where all rows are alike to the model, one by chance, and its utilities."""
    try:
        return _draws.picked(key, pool, size, strategy), None
    except errors.ConstantScores as error:
        said = np.exp(np.asarray(pool.take(np.arange(pool.rows or 0)).prediction))
        if np.ptp(said, axis=1).max() > ALIKE:
            raise
        warn(f"picked by chance: {error}")
    found = _draws.picked(key, pool, size, CHANCE)
    return found, opened(np.zeros(pool.rows or 0), np.asarray(found.indices))


def utilities(key: Key, pool: Pool, strategy: Any, found: Selection) -> np.ndarray:
    """Utilities `[B, N]` behind a batch, row b after b picks; NaN for rows picked before."""
    rows, scores = np.asarray(found.indices), np.asarray(found.scores)
    if found.about is About.DRAWS:
        log_probs = pool.take(np.arange(pool.rows or 0)).prediction
        values = np.asarray(_gains(key, log_probs, jnp.asarray(rows)), np.float64)
    else:
        own = _draws.measured(key, pool, strategy)
        if own is not None and np.allclose(own[rows], scores, equal_nan=True):
            return opened(own, rows)
        values = np.full((len(rows), pool.rows or 0), np.minimum(0.0, np.nanmin(scores)))
    values[np.arange(len(rows)), rows] = scores
    for b in range(1, len(rows)):
        values[b, rows[:b]] = np.nan
    return values


def opened(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The same numbers after each pick, NaN for those made."""
    wide = np.tile(np.asarray(values, np.float64), (len(rows), 1))
    for b in range(1, len(rows)):
        wide[b, rows[:b]] = np.nan
    return wide


@jax.jit
def _gains(key: Key, log_probs: Array, rows: Array) -> Array:
    """Information about the draws that each row's label adds to those of the picks before `[B, N]`,
    from the configurations of `batch_bald`.
    """
    draws, _, classes = log_probs.shape
    exact = labels.exact_steps(classes, CONFIGURATIONS)
    state = labels.nothing_observed(draws, classes, CONFIGURATIONS, exact)
    points = jnp.moveaxis(log_probs, 1, 0)  # [N, K, C]

    def one(state, now):
        b, row = now
        gains = _chunks.over_rows(
            lambda part: labels.information(
                state,
                jnp.exp(part).transpose(1, 2, 0),
                _maths.entropy(part).T,
            ),
            points,
            ROWS,
        )
        key_b = _random.fold_in(key, b + 1)
        state = labels.observe(key_b, state, jnp.exp(points[row]), True, b, exact)
        return state, jnp.maximum(gains, 0.0)

    return jax.lax.scan(one, state, (jnp.arange(len(rows)), rows))[1]
