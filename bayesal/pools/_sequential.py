"""Pools that are not in memory: files, memory maps and iterators, read from front to back.

One compiled program serves every chunk, and the next chunk is read while the current one is
computed.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, errors
from bayesal.pools import _rows, _sources, _walk
from bayesal.types import Pool, PyTree

Progress = Callable[[int, int | None], Any]


def file(source: Any, *, memory: int | None = None, progress: Progress | None = None) -> Pool:
    """A pool that need not fit in memory: a `.npy` file, a memory map, or an iterator of chunks.

    Every pass reads from front to back. Memory does not grow with the pool, apart from what a
    strategy measures of each row (4 bytes for a score). All chunks have one shape, so there is one
    compilation. A file is read, not mapped, and refused if it changes.

    Args:
      source: the path of a `.npy` file, a memory map or array `[N, ...]`, a SciPy sparse matrix
        (rows become dense when they are read), or a function without arguments that returns an
        iterator of chunks `[n, ...]` of any length.
      memory: bytes that the chunks being read and used may take, three copies of each; fewer rows
        than 8,192 are read at a time if need be.
      progress: called as `progress(rows_done, rows_or_None)` after every chunk.
    Raises:
      BadPool: the pool cannot be read, ends early, or changes. WrongShape: chunks that do not fit.
      WrongSize: a `memory` that not even one row fits into.

    >>> pool = file(lambda: iter([np.zeros((3, 2), np.float32), np.ones((1, 2), np.float32)]))
    >>> pool.map(None, lambda predictive, x: x.sum(axis=1)).tolist()
    [0.0, 0.0, 0.0, 2.0]
    """
    opened = _sources.opened(source)
    if opened.rows == 0:
        raise errors.WrongSize("source", "`source` has no rows: there is nothing to ask about.")
    chunk = _rows_at_a_time(opened, memory)

    def map(predictive, fn):
        kept, done = [], 0
        for count, x in _ahead(opened.read(chunk), chunk):
            with _walk.located(np.arange(done, done + count)):
                measured = _walk.part(fn, predictive, x)
            kept.append(jax.tree.map(lambda a, n=count: np.asarray(a)[:n], measured))
            done += count
            if progress is not None:
                progress(done, opened.rows)
        return _joined(kept)

    def take(rows):
        x = opened.take(np.asarray(rows))
        return jnp.asarray(np.ascontiguousarray(_rows.native(x, "source")))

    return Pool(rows=opened.rows, map=map, take=take)


def _joined(kept: list[PyTree]) -> PyTree:
    if not kept:
        raise errors.WrongSize("source", "`source` has no rows: there is nothing to ask about.")
    return jax.tree.map(lambda *parts: jnp.asarray(np.concatenate(parts)), *kept)


def _rows_at_a_time(opened: _sources.Source, memory: int | None) -> int:
    """Rows of a chunk: in `memory` go three copies of it (being read, waiting, in use)."""
    chunk = min(_walk.ON_HOST, opened.rows or _walk.ON_HOST)
    if memory is None or (first := next(opened.read(1), None)) is None:
        return max(chunk, 1)
    each = 3 * first.nbytes
    if each > _checks.at_least(1, memory, "memory"):
        raise errors.WrongSize(
            "memory",
            f"`memory` = {memory} bytes, but three copies of one row take {each}. Allow more.",
        )
    return min(chunk, memory // max(each, 1))


def _ahead(parts: Iterator[np.ndarray], chunk: int) -> Iterator[tuple[int, jax.Array]]:
    """Row count of each part, and the part padded to `chunk` rows on the device.

    The next part is read by a thread of its own while this one is used.
    """
    # a setting of the caller's thread, which the reader's thread does not see
    device = getattr(jax.config, "jax_default_device")  # noqa: B009

    begun = 0

    def read():
        nonlocal begun
        rows = next(parts, None)
        if rows is None or len(rows) == 0:
            return None
        with _walk.located(np.arange(begun, begun + len(rows))):
            rows = np.ascontiguousarray(_rows.native(rows, "source"))
        begun += len(rows)
        short = chunk - len(rows)
        whole = np.concatenate([rows, np.repeat(rows[-1:], short, axis=0)]) if short else rows
        with jax.default_device(device):
            return len(rows), jnp.asarray(whole)

    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(read)
        while (ready := waiting.result()) is not None:
            waiting = reader.submit(read)
            yield ready
