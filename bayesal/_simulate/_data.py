"""The data of a simulation: a test set held out of the pool, and the first labels."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, errors, likelihoods, pools
from bayesal._choose import finalize
from bayesal.loop._first import from_features
from bayesal.types import REJECTED, Posterior, PyTree, Strategy

HELD_OUT, MOST_HELD_OUT = 0.2, 2000  # of the pool, where no test set is given
MOST = 2**31 - 1


class Data(NamedTuple):
    """The pool that learners see, and the test set that nothing is fitted on.

    x: what learners take as their pool.
    y: its labels, leaves `[N, ...]`.
    rows: the row of the caller's pool that each row of `x` is, `[N]`.
    groups: of those rows, or None.
    test_x, test_y: the test set.
    """

    x: Any
    y: PyTree
    rows: np.ndarray
    groups: np.ndarray | None
    test_x: jax.Array
    test_y: PyTree


def hard(y: Any) -> np.ndarray:
    """Classes `[N]`: of soft labels `[N, C]` the most probable one."""
    return y.argmax(axis=-1).astype(np.int32) if y.ndim == 2 else y


# --- the test set


def split(
    pool: Any,
    y: PyTree,
    test: Any,
    posterior: Posterior,
    groups: np.ndarray | None,
    classes: int | None,
) -> Data:
    """The pool and its test set: what was given, or rows held out of the pool, whole groups of
    them and the same for every seed.
    """
    every = np.arange(pool.rows)
    x = pool if pool.x is None else jnp.asarray(pool.x)
    if isinstance(test, tuple):
        test_x, test_y = _given(test, pool, posterior, classes)
        return Data(x=x, y=y, rows=every, groups=groups, test_x=test_x, test_y=test_y)
    count = _how_many(test, pool.rows)
    if pool.x is None:
        raise errors.WrongType(
            "test",
            "rows are held out of arrays in memory only, and this pool is not one. Pass the test "
            "set: test=(x, y).",
        )
    held = np.sort(_stratified(y, count, posterior, groups))
    if len(held) == 0 or len(held) == pool.rows:
        raise errors.WrongSize(
            "test", "the groups are too large to hold some of them out: pass test=(x, y)."
        )
    kept = np.setdiff1d(every, held)
    part = lambda rows: jax.tree.map(lambda leaf: leaf[rows], y)
    return Data(
        x=x[kept],
        y=part(kept),
        rows=kept,
        groups=None if groups is None else groups[kept],
        test_x=x[held],
        test_y=part(held),
    )


def _given(test: tuple, pool: Any, posterior: Posterior, classes: int | None) -> tuple[Any, PyTree]:
    if len(test) != 2:
        raise errors.WrongType("test", f"`test` must be a pair (x, y), got {len(test)} parts.")
    found = pools.of(test[0])
    rows = found.rows
    if rows is None or found.predictive is not None:
        raise errors.WrongType("test", "`test` must be (x, y) with x an array of examples.")
    x = jnp.asarray(found.take(np.arange(rows)) if found.x is None else found.x)
    one = pool.take(np.zeros(1, np.int32)) if pool.x is None else pool.x[:1]
    if x.shape[1:] != one.shape[1:]:
        raise errors.WrongShape(
            "test",
            f"one example of `test` has shape {x.shape[1:]}, and one of the pool {one.shape[1:]}.",
        )
    check = likelihoods.labels_of(posterior).check
    assert check is not None
    y = check(test[1], rows, classes)
    if classes is not None and (bad := np.flatnonzero(hard(y) == REJECTED)).size:
        raise errors.WrongLabel(
            "test", f"rows {_checks.listed(bad)} of the test set have no class (REJECTED).", bad
        )
    return x, y


def _how_many(test: Any, rows: int) -> int:
    if test is None:
        return max(1, min(round(HELD_OUT * rows), MOST_HELD_OUT))
    number = isinstance(test, int | float | np.number) and not isinstance(test, bool)
    if number and 0 < test < 1:
        return max(1, round(float(test) * rows))
    if number and 1 <= test < rows and int(test) == test:
        return int(test)
    raise errors.OutOfRange(
        "test",
        "`test` must be (x, y), a number of rows below the pool's, or a share in (0, 1) to hold "
        f"out of the pool; got {test!r}.",
    )


def _stratified(
    y: PyTree, count: int, posterior: Posterior, groups: np.ndarray | None
) -> np.ndarray:
    """About `count` rows that hold each class by its share, or real labels by their quantiles."""
    strata_of = likelihoods.labels_of(posterior).strata
    assert strata_of is not None
    strata = np.asarray(strata_of(jax.tree.map(jnp.asarray, y)))
    known = np.ones(len(strata), bool)
    if np.issubdtype(strata.dtype, np.integer):
        known = strata != REJECTED
    rng = np.random.default_rng(0)
    if groups is None:
        return _one_of_each(strata, np.flatnonzero(known), min(count, int(known.sum())), rng)
    mixed = np.unique(groups[~known])  # a group with a rejected row stays in the pool
    names, leader = np.unique(groups, return_index=True)
    usable = np.flatnonzero(~np.isin(names, mixed))
    share = min(round(count / len(strata) * len(names)), len(usable), len(names) - 1)
    chosen = _one_of_each(strata[leader], usable, share, rng)
    return np.flatnonzero(np.isin(groups, names[chosen]))


def _one_of_each(
    strata: np.ndarray, among: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """One random row of each of `count` equal runs of the rows sorted by stratum."""
    order = among[np.lexsort((rng.random(len(among)), strata[among]))]
    edges = np.linspace(0, len(order), count + 1).round().astype(int)
    return np.array([order[rng.integers(a, b)] for a, b in itertools.pairwise(edges)], int)


# --- the first labels


def how_many_first(first: Any, size: int) -> int:
    """How many rows are labeled first."""
    if isinstance(first, Strategy):
        return size
    if isinstance(first, int | np.integer) and not isinstance(first, bool):
        return _checks.at_least(1, first, "first", most=MOST)
    return max(1, np.asarray(first).shape[-1] if np.ndim(first) else 1)


def first_rows(first: Any, data: Data, seeds: tuple[int, ...], size: int) -> np.ndarray:
    """Rows of `data.x` that each seed's runs label first, `[seeds, F]`."""
    usable = np.arange(len(data.rows))
    if isinstance(data.y, np.ndarray) and data.y.ndim == 1 and data.y.dtype.kind == "i":
        usable = np.flatnonzero(data.y != REJECTED)
    if isinstance(first, Strategy):
        _room(size, usable)
        return np.stack([_from_features(first, data, seed, size, usable) for seed in seeds])
    if isinstance(first, int | np.integer) and not isinstance(first, bool):
        _room(int(first), usable)
        draw = lambda seed: np.random.default_rng(seed).choice(usable, int(first), replace=False)
        return np.stack([draw(seed) for seed in seeds])
    rows = np.asarray(first)
    if rows.ndim not in (1, 2) or (rows.ndim == 2 and len(rows) != len(seeds)) or rows.size == 0:
        raise errors.WrongShape(
            "first",
            "`first` must be an int, a Strategy, or rows of the pool: [F] for all seeds, or "
            f"[{len(seeds)} seeds, F]; got {first!r}."[:400],
        )
    known = int(data.rows[-1]) + 1
    each = [_checks.indices(some, max(known, 1), "first") for some in np.atleast_2d(rows)]
    places = np.full(known, -1)
    places[data.rows] = np.arange(len(data.rows))
    found = np.stack([places[some] for some in each])
    if (lost := np.unique(np.stack(each)[found < 0])).size:
        raise errors.WrongIndex(
            "first",
            f"rows {_checks.listed(lost)} of `first` are in the test set that was held out of the "
            "pool. Pass the test set: test=(x, y).",
            lost,
        )
    return np.broadcast_to(found, (len(seeds), found.shape[1]))


def _room(count: int, usable: np.ndarray) -> None:
    if count > len(usable):
        raise errors.WrongSize(
            "first",
            f"`first` is {count} labels, and the pool has {len(usable)} rows with a label besides "
            "the test set: pass fewer, or a larger pool.",
        )


def _from_features(
    strategy: Strategy, data: Data, seed: int, size: int, usable: np.ndarray
) -> np.ndarray:
    """What a strategy picks that knows nothing but the examples as they are."""
    x = data.x
    if not hasattr(x, "shape"):  # a pool that is no array
        raise errors.WrongType(
            "first",
            "a Strategy for `first` needs a pool in memory: pass an int, or rows of the pool.",
        )
    picked = finalize(
        from_features(jax.random.key(seed), np.asarray(x[usable]), size, strategy), size
    )
    return usable[np.asarray(picked.indices)]
