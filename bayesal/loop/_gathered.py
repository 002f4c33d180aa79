"""The rows of the pool that a round learns from, gathered on the host: nothing else of the pool is
read or copied.
"""

import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from bayesal import _checks, errors, pools
from bayesal.loop._state import LearnerState, Ledger
from bayesal.types import Array, Labeled, Pool

GLANCE = 64  # labeled rows that `ask` compares with what they were


class View(NamedTuple):
    """A pool as the loop sees it: its shape, and rows of it on the host."""

    shape: tuple[int, ...]
    dtype: Any
    pool: Pool


def view(x: Any) -> View:
    """The pool of what was passed; of a file only the header and one row are read."""
    pool = pools.of(x)
    if pool.predictive is not None:
        raise errors.WrongType(
            "x",
            "`x` holds predictions, and a learner makes its own: pass the examples, or choose from "
            "predictions by bayesal.choose(key, None, x, size, strategy).",
        )
    if pool.rows is None:
        raise errors.WrongType(
            "x",
            "`x` is an iterator, whose length only a whole pass tells, and a learner knows rows by "
            "their number: save the pool as a .npy file, or use bayesal.choose.",
        )
    one = pool.take(np.zeros(1, np.int32)) if pool.x is None else pool.x
    return View(shape=(pool.rows, *one.shape[1:]), dtype=one.dtype, pool=pool)


class Gathered(NamedTuple):
    """Labels that count, with the features of their rows: those of weight above 0, in order of
    acquisition, and then zeros up to the capacity.

    A label of weight 0 is nowhere in here, so that it changes nothing, to the bit.

    labeled: features, labels, count and weights.
    groups:  the group of each row; None: every row is one by itself.
    fair:    which rows are the audit; None where there is none.
    known:   number of labels that the last fit knew; 0: everything is fitted.
    """

    labeled: Labeled
    groups: Int[Array, " M"] | None
    fair: Bool[Array, " M"] | None
    known: Int[Array, ""]


def gather(
    ledger: Ledger,
    features: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    fair: np.ndarray | None = None,
    known: int = 0,
) -> Gathered:
    """What a round learns from.

    Args:
      features: of the ledger's rows `[count, ...]`.
      groups: of all rows of the pool.
      fair: which entries of the ledger are the audit, `[M]`.
      known: number of the ledger's entries that the last fit knew.
    """
    order = usable(ledger)
    put = lambda leaf: _padded(np.asarray(leaf)[order], ledger.capacity)
    labeled = Labeled(
        x=put(features),
        y=jax.tree.map(put, ledger.labels),
        count=jnp.int32(len(order)),
        weight=put(ledger.weight),
    )
    return Gathered(
        labeled=labeled,
        groups=None if groups is None else put(groups[ledger.rows()]),
        fair=None if fair is None else put(fair),
        known=jnp.int32(np.sum(order < known)),
    )


def usable(ledger: Ledger) -> np.ndarray:
    """Places of the ledger whose labels count."""
    return np.flatnonzero(np.asarray(ledger.weight)[: int(ledger.count)] > 0)


def _padded(rows: np.ndarray, capacity: int) -> jax.Array:
    full = np.zeros((capacity, *rows.shape[1:]), rows.dtype)
    full[: len(rows)] = rows
    return jnp.asarray(full)


def shapes(ledger: Ledger, x: Any, *, grouped: bool = False, audited: bool = False) -> Gathered:
    """Shapes and types of what `gather` gives for examples like those of `x`; nothing is made."""
    empty = jax.tree.map(lambda leaf: leaf[:1] if leaf.ndim else leaf * 0, ledger)
    small = gather(
        empty,
        np.zeros((0, *x.shape[1:]), x.dtype),
        groups=np.zeros(1, np.int32) if grouped else None,
        fair=np.zeros(1, bool) if audited else None,
    )
    size = lambda leaf: jax.ShapeDtypeStruct((ledger.capacity, *leaf.shape[1:]), leaf.dtype)
    return jax.tree.map(lambda leaf: size(leaf) if leaf.ndim else leaf, small)


def take(x: View, rows: np.ndarray, room: int | None = None) -> np.ndarray:
    """Some rows of a pool `[n, ...]`, on the host. Every reading of labeled rows comes through
    here.

    Args:
      room: rows that a device gives at a time, so that a growing number of them compiles nothing
        anew; default the next power of two.
    """
    if x.pool.x is None:  # on disk, or over devices
        return np.asarray(x.pool.take(rows)) if len(rows) else np.zeros((0, *x.shape[1:]), x.dtype)
    if isinstance(x.pool.x, np.ndarray):
        return np.asarray(x.pool.x[rows])
    at = np.zeros(room or 1 << (len(rows) - 1).bit_length(), np.int32)
    at[: len(rows)] = rows
    return np.asarray(_rows(x.pool.x, at))[: len(rows)]


@jax.jit
def _rows(x, at):
    return x[at]


NARROW = {"float64": "float32", "int64": "int32", "uint64": "uint32"}


def kind_of(x: Any) -> int:
    """A hash of the shape and type of one example; of what float32 and int32 hold of it."""
    dtype = NARROW.get(str(x.dtype), str(x.dtype))
    return zlib.crc32(f"{tuple(x.shape[1:])} {dtype}".encode())


def digests(features: np.ndarray) -> np.ndarray:
    """A hash of each row's features; two pools of one content in float32 and float64 agree."""
    rows = np.ascontiguousarray(features.astype(NARROW.get(str(features.dtype), features.dtype)))
    size = rows[:1].nbytes
    data = rows.reshape(-1).view(np.uint8).reshape(len(rows), size)  # bfloat16 has no buffer
    return np.array([zlib.crc32(row.tobytes()) for row in data], np.uint32)


def same_kind(state: LearnerState, x: Any) -> None:
    """The pool's examples have the shape and type that they had at the start."""
    if kind_of(x) != int(state.kind):
        raise errors.BadPool(
            "x",
            f"one example of `x` has shape {tuple(x.shape[1:])} and type {x.dtype}, and at `init` "
            "it was another: this is not the pool that the learner began with. If that is meant, "
            "build the learner with pool_changed='allow'.",
        )


def same_rows(ledger: Ledger, places: np.ndarray, found: np.ndarray) -> None:
    """Rows at these places of the ledger have the hash that they had when they were labeled."""
    changed = ledger.rows()[places[np.asarray(ledger.digest)[places] != found]]
    if len(changed):
        raise errors.BadPool(
            "x",
            f"rows {_checks.listed(changed)} of `x` are not what they were when they were labeled: "
            "the pool has another order, or other values. Rows keep their numbers; new ones are "
            "appended. If the change is meant, build the learner with pool_changed='allow'.",
            changed,
        )


def glance(state: LearnerState, x: Any) -> None:
    """Refuses a pool in which any of up to `GLANCE` labeled rows has changed."""
    count = int(state.ledger.count)
    places = np.unique(np.linspace(0, count - 1, min(count, GLANCE)).astype(int))
    same_rows(state.ledger, places, digests(take(x, state.ledger.rows()[places], GLANCE)))
