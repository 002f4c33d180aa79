"""The first batch: no net knows anything before the first label, so features alone decide."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from bayesal import _checks, acquire, errors
from bayesal._choose import pick_unchecked
from bayesal.loop import _audit as audit
from bayesal.loop._gathered import View, take, usable
from bayesal.loop._state import LearnerState, round_key
from bayesal.pools._walk import in_memory
from bayesal.types import Array, Key, Selection, Strategy

MOST = 20_000  # rows among which centers are looked for; of a larger pool so many drawn at random
TYPICAL, CHANCE = acquire.typiclust(), acquire.uniform()


class First(NamedTuple):
    """How a learner picks before any label.

    strategy: one that needs features only; None: TypiClust, or chance where rows are ids.
    features: of all rows of the pool `[N, D]`; None: the rows themselves, flattened.
    """

    strategy: Strategy | None
    features: np.ndarray | None


def of(given: Any) -> First:
    """The first batch as people ask for it: a strategy, features, or nothing."""
    if given is None:
        return First(strategy=None, features=None)
    if isinstance(given, Strategy):
        return First(strategy=given, features=None)
    if callable(given) or isinstance(given, str | int):
        raise errors.WrongType(
            "first",
            "`first` must be a strategy that needs features only, such as acquire.k_means(), or "
            f"features [N, D] of the pool; got {getattr(given, '__name__', given)!r}.",
        )
    return First(strategy=TYPICAL, features=np.asarray(_checks.features(given)))


@jax.tree_util.register_static
class _Lying:
    """A predictive without a net: a row is its own feature vector."""

    def __call__(self, x: Array) -> Any:
        raise errors.WrongType(
            "first",
            "before the first label there is nothing to predict with, so the first batch is picked "
            "from features: acquire.typiclust() (the default), k_means(), k_center() or uniform().",
        )

    def embed(self, x: Array) -> Array:
        return x


_LYING = _Lying()


def unlabeled(state: LearnerState) -> bool:
    """Whether no label has been fitted yet."""
    return len(usable(state.ledger)) == 0


def batch(
    state: LearnerState,
    x: View,
    excluded: Bool[np.ndarray, " N"],
    first: First,
    size: int,
    audits: int,
) -> Selection:
    """The first batch, with an audit before it if there is one."""
    if first.features is not None and len(first.features) != x.shape[0]:
        raise errors.WrongShape(
            "first",
            f"`first` holds features of {len(first.features)} rows, and the pool has "
            f"{x.shape[0]}: one row of features per row of the pool.",
        )
    free = ~excluded
    free[state.ledger.rows()] = False
    if not audits:
        return _typical(state, x, free, first, size)
    lots = audit.lots(state.key, x.shape[0])
    drawn = audit.draw(lots, jnp.asarray(free), audits)
    free[np.asarray(drawn)[np.asarray(drawn) >= 0]] = False
    return audit.before(drawn, _typical(state, x, free, first, max(size - audits, 1)))


def _typical(
    state: LearnerState, x: View, free: Bool[np.ndarray, " N"], first: First, size: int
) -> Selection:
    key, rows = round_key(state, 2), np.flatnonzero(free)
    if len(rows) > MOST:
        seed = np.asarray(jax.random.key_data(key)).ravel()
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST, replace=False))
    if len(rows) == 0:
        return Selection(indices=jnp.full(size, -1, jnp.int32), scores=jnp.full(size, -jnp.inf))
    features = take(x, rows) if first.features is None else first.features[rows]
    strategy = first.strategy or (CHANCE if _are_ids(features) else TYPICAL)
    found = from_features(key, features, min(size, len(rows)), strategy)
    at = np.asarray(found.indices)
    return found._replace(indices=jnp.asarray(np.where(at < 0, -1, rows[at]), jnp.int32))


def from_features(key: Key, rows: np.ndarray, size: int, strategy: Strategy) -> Selection:
    """What a strategy picks that sees examples `[n, ...]` as they are, flattened, and no net."""
    lying = jnp.asarray(rows.reshape(len(rows), -1), jnp.float32)
    free = jnp.ones(len(rows), bool)
    return pick_unchecked(key, _LYING, in_memory(lying), free, size, strategy)[0]


def _are_ids(rows: np.ndarray) -> bool:
    """Whether rows are vectors of ids (tokens, pairs of items), between which no distance means
    anything. Bytes are pictures.

    >>> _are_ids(np.zeros((5, 2), np.int32)), _are_ids(np.zeros((5, 64), np.uint8))
    (True, False)
    """
    return rows.ndim <= 2 and rows.dtype.kind in "iu" and rows.dtype.itemsize > 1
