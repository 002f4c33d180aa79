"""BatchBALD over a streamed pool: among the rows with the highest BALD scores, with
a certificate.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, select
from bayesal.scores import bald
from bayesal.select._lazy import certified
from bayesal.stream.ranked import (
    CHUNK,
    Candidates,
    Progress,
    best,
    checked_mask,
    log_probs_of,
    measured,
    rows_at_a_time,
)
from bayesal.stream.sources import Source, opened
from bayesal.types import ArrayLike, Key, Selection


def batch_bald(
    key: Key,
    predictive: Callable[[Any], Any],
    source: Any,
    size: int,
    *,
    candidates: int = 1000,
    available: ArrayLike | None = None,
    grow: bool = False,
    configurations: int = 1000,
    chunk: int = CHUNK,
    memory: int | None = None,
    progress: Progress | None = None,
) -> Selection:
    """BatchBALD among the `candidates` rows of a streamed pool with the highest BALD scores.

    `Selection.certified` says whether the batch is provably the whole pool's: a gain never exceeds
    the BALD score, so it is if the smallest gain in the batch is at least the highest BALD score
    left out. The pool is scored once. Growing keeps the scores (4 bytes a row) and reads only the
    rows it needs; an iterator is read again from the front for them.

    Args:
      key: see `select.batch_bald`.
      predictive, source, chunk, memory, progress: see `stream.scores`.
      size: how many to pick.
      candidates: how many rows enter the joint computation, which holds K * candidates * C numbers.
      available: mask `[N]` of the rows that may be picked; all if None.
      grow: double the candidates until the batch is certified or holds the whole pool.
      configurations: see `select.batch_bald`.
    Raises:
      As `stream.scores` and `select.batch_bald` do.
    References:
      Kirsch et al. 2019, https://arxiv.org/abs/1906.08158

    >>> predictive = lambda x: jnp.moveaxis(jnp.log(jnp.stack([x, 1 - x], axis=-1)), 0, 1)
    >>> pool = np.array(
    ...     [[0.5, 0.5, 0.5], [0.1, 0.9, 0.9], [0.1, 0.9, 0.9], [0.9, 0.2, 0.9]], np.float32
    ... )
    >>> picked = batch_bald(jax.random.key(0), predictive, pool, 2, candidates=3)
    >>> picked.indices.tolist(), bool(picked.certified)
    ([1, 3], True)
    """
    _checks.at_least(1, size, "size")
    _checks.at_least(1, candidates, "candidates")
    pool, every = opened(source), []
    mask = checked_mask(available, pool)
    chunk = rows_at_a_time(predictive, pool, chunk, memory)
    parts = measured(predictive, pool, bald, chunk, progress)
    shape = max(candidates, size)
    kept = best(_recorded(parts, every) if grow else parts, shape, mask)
    _checks.batch_size(size, np.ones(kept.available, bool))
    while True:
        log_probs = _log_probs(predictive, kept.x, chunk, shape)
        inner = select.batch_bald(
            key,
            log_probs,
            size,
            available=np.arange(shape) < len(kept.rows),
            configurations=configurations,
        )
        found = certified(inner, kept.left_out)
        if bool(found.certified) or not grow:
            return found._replace(
                indices=kept.rows[np.asarray(inner.indices)], nonfinite=jnp.asarray(kept.nonfinite)
            )
        shape *= 2
        kept = _grown(kept, shape, pool, np.concatenate(every), mask)


def _recorded(parts, every: list):
    for start, part, values in parts:
        every.append(values)
        yield start, part, values


def _grown(
    kept: Candidates, count: int, pool: Source, values: np.ndarray, mask: np.ndarray | None
) -> Candidates:
    """More candidates, from scores that are known already."""
    safe = np.where(np.isfinite(values) & (True if mask is None else mask), values, -np.inf)
    order = np.argsort(-safe, kind="stable")[: min(count, kept.available) + 1]
    rows = order[: min(count, kept.available)]
    left_out = float(safe[order[count]]) if count < kept.available else -np.inf
    return kept._replace(rows=rows, x=pool.take(rows), scores=safe[rows], left_out=left_out)


def _log_probs(predictive, x: np.ndarray, chunk: int, rows: int) -> jax.Array:
    """Log-probabilities `[K, rows, C]` of the candidates, chunk by chunk; padded, so that every
    round of a loop has one shape.
    """
    chunk = min(chunk, rows)
    whole = np.concatenate([x, np.repeat(x[-1:], rows + (-rows % chunk) - len(x), axis=0)])
    parts = [
        jnp.asarray(log_probs_of(predictive, jnp.asarray(whole[start : start + chunk])))
        for start in range(0, len(whole), chunk)
    ]
    return jnp.concatenate(parts, axis=1)[:, :rows]
