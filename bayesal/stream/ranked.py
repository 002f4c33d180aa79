"""One pass over a streamed pool: the score of every row, or the best rows only."""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, errors
from bayesal.scores import bald
from bayesal.stream.sources import Source, opened
from bayesal.types import ArrayLike, Score, Selection

CHUNK = 8192  # rows computed at a time
Progress = Callable[[int, int | None], Any]


class Candidates(NamedTuple):
    """The best rows of a streamed pool, best first; ties go to the lowest row.

    rows:      rows of the pool, at most as many as were asked for.
    x:         what the pool holds there, `[n, ...]`.
    scores:    their scores.
    left_out:  the highest score of an available row that is not among them, or -inf: what a
      certificate needs.
    nonfinite: how many available rows had NaN in their prediction, or a NaN or +inf score; none of
      them is kept.
    available: how many rows were there to be picked, kept or not.
    constant:  whether there were more of them than asked for and all had the same score.
    """

    rows: np.ndarray
    x: np.ndarray
    scores: np.ndarray
    left_out: float
    nonfinite: int
    available: int
    constant: bool


def scores(
    predictive: Callable[[Any], Any],
    source: Any,
    score: Score,
    *,
    chunk: int = CHUNK,
    memory: int | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """The score of every row of a pool that need not fit in memory, `[N]` float32; NaN where the
    prediction has NaN.

    Memory beyond the result is that of two chunks and one chunk's log-probabilities. All chunks
    have one shape (the last is padded, and the padding's scores are dropped), so there is one
    compilation; the next chunk is read by a thread of its own meanwhile.

    Args:
      predictive: a `Predictive`, or any function of `x [n, ...]` that gives log-probabilities `[K,
        n, C]` of the same K draws for every chunk. It is called as it is: jit it yourself.
      source: an array or np.memmap `[N, ...]`, the path of a .npy file, or a function without
        arguments that returns an iterator of chunks `[n, ...]` of any length.
      score: one of `bayesal.scores`, or any function of `log_probs [K, n, C]` to `[n]` that JAX can
        trace.
      chunk: rows computed at a time.
      memory: bytes that the chunks and their log-probabilities may take; fewer rows than `chunk`
        are computed at a time if need be. What the network itself needs within a chunk comes on
        top.
      progress: called as `progress(rows_done, rows_or_None)` after every chunk.
    Raises:
      BadPool: the pool cannot be read, ends early or changes. NotLogProbabilities: what
        `predictive` gives. WrongShape: chunks or scores that do
      not fit. WrongSize: a `memory` that not even one row fits into.

    >>> # x [n, K] holds each draw's probability of class 0
    >>> halves = lambda x: jnp.log(jnp.stack([x, 1 - x], axis=-1))
    >>> predictive = lambda x: jnp.moveaxis(halves(x), 0, 1)
    >>> scores(predictive, np.array([[0.5, 0.5], [0.1, 0.9]], np.float32), bald).round(3).tolist()
    [0.0, 0.36800000071525574]
    """
    pool = opened(source)
    parts = measured(
        predictive, pool, score, rows_at_a_time(predictive, pool, chunk, memory), progress
    )
    return np.concatenate([np.zeros(0, np.float32), *(values for _, _, values in parts)])


def candidates(
    predictive: Callable[[Any], Any],
    source: Any,
    count: int,
    *,
    score: Score = bald,
    available: ArrayLike | None = None,
    chunk: int = CHUNK,
    memory: int | None = None,
    progress: Progress | None = None,
) -> Candidates:
    """The `count` best rows of a streamed pool, with what the pool holds there and the highest
    score left out.

    Memory does not grow with the pool. Any selector may follow on `predictive(candidates.x)`;
    `candidates.rows` leads back to the pool. A BatchBALD gain never exceeds the BALD score, so a
    batch of `select.batch_bald` on candidates by BALD is provably the whole pool's if its smallest
    gain is at least `left_out`.

    Args:
      predictive, source, chunk, memory, progress: see `scores`.
      count: how many rows to keep.
      score: what ranks the pool.
      available: mask `[N]` of the rows that may be picked; all if None.
    Raises:
      As `scores` does.

    >>> predictive = lambda x: jnp.moveaxis(jnp.log(jnp.stack([x, 1 - x], axis=-1)), 0, 1)
    >>> best = candidates(predictive, np.array([[0.5, 0.5], [0.1, 0.9], [0.4, 0.6]], np.float32), 1)
    >>> best.rows.tolist(), best.x.tolist(), round(best.left_out, 3)
    ([1], [[0.10000000149011612, 0.8999999761581421]], 0.02)
    """
    _checks.at_least(1, count, "count")
    pool = opened(source)
    mask = checked_mask(available, pool)
    return best(
        measured(
            predictive, pool, score, rows_at_a_time(predictive, pool, chunk, memory), progress
        ),
        count,
        mask,
    )


def top(
    predictive: Callable[[Any], Any],
    source: Any,
    score: Score,
    size: int,
    *,
    available: ArrayLike | None = None,
    chunk: int = CHUNK,
    memory: int | None = None,
    progress: Progress | None = None,
) -> Selection:
    """The `size` rows of a streamed pool with the highest scores; ties go to the lowest row. Memory
    does not grow with the pool.

    Args:
      predictive, source, score, chunk, memory, progress: see `scores`.
      size: how many to pick.
      available: mask `[N]` of the rows that may be picked; all if None.
    Raises:
      As `scores` does. WrongSize: fewer than `size` rows can be picked. ConstantScores: all have
      the same score, so there is no ranking.

    >>> predictive = lambda x: jnp.moveaxis(jnp.log(jnp.stack([x, 1 - x], axis=-1)), 0, 1)
    >>> top(
    ...     predictive, np.array([[0.5, 0.5], [0.1, 0.9], [0.4, 0.6]], np.float32), bald, 2
    ... ).indices.tolist()
    [1, 2]
    """
    _checks.at_least(1, size, "size")
    kept = candidates(
        predictive,
        source,
        size,
        score=score,
        available=available,
        chunk=chunk,
        memory=memory,
        progress=progress,
    )
    _checks.batch_size(size, np.ones(kept.available, bool))
    selection = Selection(
        kept.rows,
        kept.scores,
        constant=jnp.asarray(kept.constant),
        nonfinite=jnp.asarray(kept.nonfinite),
    )
    _checks.not_constant(selection)
    return selection


def checked_mask(available: ArrayLike | None, pool: Source) -> np.ndarray | None:
    """The mask, as far as it can be checked before the pool has been read."""
    if available is None:
        return None
    rows = pool.rows if pool.rows is not None else (*np.shape(available), 0)[0]
    return np.asarray(_checks.available_rows(available, rows))


def best(
    parts: Iterator[tuple[int, np.ndarray, np.ndarray]], count: int, mask: np.ndarray | None
) -> Candidates:
    """The `count` best rows of measured parts: no more than those and one part are ever held."""
    kept, left_out, seen, nonfinite, choices, low = None, -np.inf, 0, 0, 0, np.inf
    for start, part, values in parts:
        seen = start + len(part)
        allowed = np.ones(len(part), bool)
        if mask is not None:
            allowed[:] = np.pad(mask[start:seen], (0, max(0, seen - max(start, len(mask)))))
        broken = np.isnan(values) | np.isposinf(values)
        nonfinite += int(np.sum(broken & allowed))
        values = np.where(allowed & ~broken, values, -np.inf)
        choices += int(np.sum(values > -np.inf))
        low = min(low, float(values[values > -np.inf].min(initial=np.inf)))
        kept = (np.zeros(0, np.int64), part[:0], values[:0]) if kept is None else kept
        hopeful = values > (kept[2][-1] if len(kept[2]) == count else -np.inf)
        left_out = max(left_out, float(values[~hopeful].max(initial=-np.inf)))
        if (
            hopeful.any()
        ):  # earlier rows stand first, and the sort is stable: ties go to the lowest row
            new = (start + np.flatnonzero(hopeful), part[hopeful], values[hopeful])
            merged = [np.concatenate(pair) for pair in zip(kept, new, strict=True)]
            order = np.argsort(-merged[2], kind="stable")
            left_out = max(left_out, float(merged[2][order[count:]].max(initial=-np.inf)))
            kept = tuple(array[order[:count]] for array in merged)
    if mask is not None:
        _checks.available_rows(mask, seen)
    rows, x, values = kept or (np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.float32))
    return Candidates(
        rows, x, values, left_out, nonfinite, choices, choices > count and low == float(values[0])
    )


def measured(
    predictive: Callable[[Any], Any],
    source: Source,
    score: Score,
    chunk: int,
    progress: Progress | None,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """First row, rows and scores of one part after another; NaN where the prediction has NaN."""
    start = 0
    for part, x in _ahead(source.read(chunk), chunk):
        values, off = _measure(log_probs_of(predictive, x), score)
        if (bad := np.flatnonzero(np.asarray(off)[: len(part)])).size:
            raise errors.NotLogProbabilities(
                "predictive",
                "`predictive(x)` must give normalized log-probabilities [K, n, C], but rows "
                f"{_checks.listed(start + bad)} of the pool do "
                "not sum to 1 over the last axis. Logits become log-probabilities by "
                "jax.nn.log_softmax(logits, axis=-1).",
                start + bad,
            )
        yield start, part, np.asarray(values)[: len(part)]
        start += len(part)
        if progress is not None:
            progress(start, source.rows)


def log_probs_of(predictive: Callable[[Any], Any], x: jax.Array) -> Any:
    """What the predictive gives for a chunk: `[K, n, C]` for as many rows as it got."""
    log_probs = predictive(x)
    if (
        np.ndim(log_probs) != 3
        or log_probs.shape[1] != len(x)
        or log_probs.shape[0] < 1
        or log_probs.shape[2] < 2
    ):
        raise errors.WrongShape(
            "predictive",
            "`predictive(x)` must give [K draws, n rows, C classes] for x of shape "
            f"{x.shape}; got shape {np.shape(log_probs)}.",
        )
    if not jnp.issubdtype(log_probs.dtype, jnp.floating):
        raise errors.NotLogProbabilities(
            "predictive",
            f"`predictive(x)` must give floating-point log-probabilities, got {log_probs.dtype}.",
        )
    return log_probs


def rows_at_a_time(
    predictive: Callable[[Any], Any], source: Source, chunk: int, memory: int | None
) -> int:
    """Rows of a chunk. In `memory` go three copies of them (being read, waiting, in use) and four
    of their log-probabilities.
    """
    chunk = min(_checks.at_least(1, chunk, "chunk"), source.rows or chunk)
    if memory is None or (first := next(source.read(1), None)) is None:
        return chunk
    draws, _, classes = log_probs_of(predictive, jnp.asarray(first)).shape
    each = 3 * first.nbytes + 4 * 4 * draws * classes
    if each > _checks.at_least(1, memory, "memory"):
        raise errors.WrongSize(
            "memory",
            f"`memory` = {memory} bytes, but one row takes {each}: 3 copies of its "
            f"{first.nbytes} bytes and 4 of K * C = {draws} * {classes} float32 "
            "log-probabilities. Allow more, or use fewer draws.",
        )
    return min(chunk, memory // each)


def _ahead(parts: Iterator[np.ndarray], chunk: int) -> Iterator[tuple[np.ndarray, jax.Array]]:
    """Each part, and the same padded to `chunk` rows on the device; the next is read while this one
    is used.
    """
    device = jax.config.jax_default_device  # a setting of the caller's thread

    def read():
        part = next(parts, None)
        if part is None or len(part) == 0:
            return None
        part = np.ascontiguousarray(part, part.dtype.newbyteorder("="))
        whole = (
            part
            if len(part) == chunk
            else np.concatenate([part, np.repeat(part[-1:], chunk - len(part), axis=0)])
        )
        with jax.default_device(device):
            return part, jnp.asarray(whole)

    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(read)
        while (ready := waiting.result()) is not None:
            waiting = reader.submit(read)
            yield ready


@functools.partial(jax.jit, static_argnames="score")
def _measure(log_probs, score):
    """Scores `[n]`, NaN where a log-probability is NaN, and which of the other rows are not
    normalized.
    """
    storage = str(log_probs.dtype)
    log_probs = log_probs.astype(jnp.float32)
    nan = jnp.isnan(log_probs).any(axis=(0, 2))
    off = (
        jnp.abs(jax.nn.logsumexp(log_probs, axis=-1)) > _checks.TOLERANCE.get(storage, 1e-3)
    ).any(axis=0)
    values = score(log_probs)
    if values.shape != nan.shape:
        raise errors.WrongShape(
            "score",
            f"`score` must give one number per row, [n] from [K, n, C]; got {values.shape} "
            f"from {log_probs.shape}.",
        )
    return jnp.where(nan, jnp.nan, values.astype(jnp.float32)), off & ~nan
