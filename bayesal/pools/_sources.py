"""Where a pool is read from: one record for arrays, files and iterators, with their checks."""

import mmap
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, errors


class Source(NamedTuple):
    """A pool that can be read again and again, always the same.

    rows: how many there are, or None where only a whole pass can tell.
    read: `(chunk) -> iterator` of arrays `[chunk, ...]` from front to back; the last one may be
      shorter.
    take: `(rows) -> array [m, ...]` of these rows, in this order.
    """

    rows: int | None
    read: Callable[[int], Iterator[np.ndarray]]
    take: Callable[[np.ndarray], np.ndarray]


def opened(source: Any) -> Source:
    """A `Source` from what a user passes; nothing but a file's header is read yet."""
    if isinstance(source, str | os.PathLike):
        return _from_npy(Path(source))
    if isinstance(source, np.memmap) and _is_its_file(source):
        return _from_file(Path(str(source.filename)), source)
    if isinstance(source, np.ndarray | jax.Array):
        return _from_array(np.asarray(_checks.plain(source, "source")))
    if hasattr(source, "tocsr"):
        return _from_sparse(source.tocsr())
    if callable(source):
        return _from_iterator(source)
    advice = (
        "An iterator can be read only once: pass the function that makes it."
        if isinstance(source, Iterator)
        else "Of a list of chunks: lambda: iter(chunks)."
    )
    raise errors.WrongShape(
        "source",
        "`source` must be an array or np.memmap [N, ...], the path of a .npy file, or a "
        "function without arguments that returns an "
        f"iterator of chunks [n, ...]; got {type(source).__name__}. {advice}",
    )


def _rows_of_numbers(shape: tuple[int, ...], dtype: Any, what: str) -> None:
    if len(shape) < 2:
        raise errors.WrongShape(
            "source",
            f"{what} must have the pool's rows as its first axis, [N, ...] with one example per "
            f"row; got shape {tuple(shape)}. Rows of a single number are x[:, None].",
        )
    real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    if not (real or jnp.issubdtype(dtype, jnp.bool_)):
        raise errors.BadPool(
            "source", f"{what} must hold real numbers, got dtype {dtype}. Encode it first."
        )


def _from_array(x: np.ndarray) -> Source:
    _rows_of_numbers(x.shape, x.dtype, "`source`")

    def read(chunk):
        for start in range(0, len(x), chunk):
            yield np.asarray(x[start : start + chunk])

    return Source(len(x), read, lambda rows: np.asarray(x[rows]))


def _from_sparse(x: Any) -> Source:
    """A SciPy sparse matrix whose rows become dense when they are read."""
    _rows_of_numbers(x.shape, x.dtype, "`source`")

    def read(chunk):
        for start in range(0, x.shape[0], chunk):
            yield x[start : start + chunk].toarray()

    return Source(x.shape[0], read, lambda rows: x[rows].toarray())


def _is_its_file(x: np.memmap) -> bool:
    """Whether a memory map shows its file and nothing else: not a view of part of it, no private
    changes.
    """
    return (
        isinstance(x.base, mmap.mmap)
        and x.filename is not None
        and x.mode != "c"
        and x.flags.c_contiguous
    )


def _from_npy(path: Path) -> Source:
    if path.is_dir():
        raise errors.BadPool(
            "source",
            f"`source` = {path} is a folder. Pass one .npy file, or a function that returns an "
            "iterator of chunks: lambda: (np.load(part) for part in parts).",
        )
    try:
        x = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise errors.BadPool(
            "source",
            f"`source` = {path} cannot be read as a .npy file of numbers: {error}. The usual "
            "causes: a file that ends early, an array of Python "
            "objects, or another format. Write it with np.save.",
        ) from error
    if not isinstance(x, np.memmap):
        raise errors.BadPool(
            "source", f"`source` = {path} holds several arrays: save the pool alone, by np.save."
        )
    return _from_file(path, x) if x.flags.c_contiguous else _from_array(x)


def _from_file(path: Path, x: np.memmap) -> Source:
    """Rows are read rather than mapped: mapped pages would count as this process's memory, and a
    cut file would end it.
    """
    _rows_of_numbers(x.shape, x.dtype, f"`source` = {path}")
    rows, trailing, dtype, offset = x.shape[0], x.shape[1:], x.dtype, x.offset
    each = int(np.prod(trailing))
    stamp = _stamp(path)

    def part(start, count):
        got = np.fromfile(path, dtype, count * each, offset=offset + start * each * dtype.itemsize)
        if len(got) < count * each:
            raise errors.BadPool(
                "source",
                f"`source` = {path} ends early: {rows} rows were promised, and row "
                f"{start + len(got) // max(each, 1)} is not there.",
            )
        return got.reshape(count, *trailing)

    def unchanged():
        if _stamp(path) != stamp:
            raise errors.BadPool(
                "source",
                f"`source` = {path} was changed while it was read, so its rows are not one "
                "pool. Run it again on a finished file.",
            )

    def read(chunk):
        for start in range(0, rows, chunk):
            yield part(start, min(chunk, rows - start))
        unchanged()

    def take(wanted):
        taken = np.concatenate(
            [np.zeros((0, *trailing), dtype), *(part(int(row), 1) for row in wanted)]
        )
        unchanged()
        return taken

    return Source(rows, read, take)


def _stamp(path: Path) -> tuple[int, int, int]:
    facts = os.stat(path)
    return facts.st_size, facts.st_mtime_ns, facts.st_ino


def _from_iterator(make: Callable[[], Iterable[Any]]) -> Source:
    first = None  # rows and checksum of the first pass

    def read(chunk):
        nonlocal first
        seen = (0, 0)
        for part in _even(_alike(make()), chunk):
            seen = (
                seen[0] + len(part),
                zlib.crc32(np.ascontiguousarray(part).reshape(-1).view(np.uint8), seen[1]),
            )
            yield part
        first = first or seen
        if seen != first:
            what = (
                f"{first[0]} rows in the first pass and {seen[0]} in a later one"
                if seen[0] != first[0]
                else "the same number of rows, but other ones"
            )
            raise errors.BadPool(
                "source",
                f"`source()` is not the same pool in every pass: it gave {what}. Rows are "
                "known by their number, so the order must be "
                "fixed: no shuffling, no random augmentation, and a new iterator from every call.",
            )

    def take(wanted):
        if not wanted.any():  # a look at one row, for its shape: not worth a pass
            return np.repeat(next(read(1))[:1], len(wanted), axis=0)
        order = np.argsort(wanted, kind="stable")
        found, start = [], 0
        for part in read(4096):
            here = wanted[order][
                np.searchsorted(wanted[order], start) : np.searchsorted(
                    wanted[order], start + len(part)
                )
            ]
            found.append(part[here - start])
            start += len(part)
        return np.concatenate(found)[np.argsort(order, kind="stable")]

    return Source(None, read, take)


def _alike(parts: Iterable[Any]) -> Iterator[np.ndarray]:
    """Copies of the parts (an iterator may fill one buffer again and again), all of one trailing
    shape and dtype.
    """
    first = None
    for number, part in enumerate(parts):
        part = np.array(_checks.plain(part, "source"))
        _rows_of_numbers(part.shape, part.dtype, f"chunk {number} of `source()`")
        first = part[:0] if first is None else first
        if part.shape[1:] != first.shape[1:] or part.dtype != first.dtype:
            raise errors.WrongShape(
                "source",
                f"chunk {number} of `source()` has rows of shape {part.shape[1:]} and dtype "
                f"{part.dtype}, the first chunk {first.shape[1:]} and "
                f"{first.dtype}; every chunk must be [n, ...] with the same rest.",
            )
        yield part


def _even(parts: Iterable[np.ndarray], chunk: int) -> Iterator[np.ndarray]:
    """Parts of any length become parts of `chunk` rows; the last may be shorter."""
    waiting, have = [], 0
    for part in parts:
        waiting.append(part)
        have += len(part)
        if have >= chunk:
            whole = np.concatenate(waiting)
            ready = have - have % chunk
            for start in range(0, ready, chunk):
                yield whole[start : start + chunk]
            waiting, have = [whole[ready:]], have - ready
    if have:
        yield np.concatenate(waiting)
