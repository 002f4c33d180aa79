"""Preference learning: candidate pairs as a pool, closed-form BALD of pairs, utilities of items.

x, rows = preference.pool(key, items, 2_000)      # pairs [P, 2, D], their items [P, 2]
learner = bayesal.learner(
    posteriors.preference(), acquire.epig(100), size=5, capacity=200
)                                                 # or preference.bald()
state = learner.tell(state, x, picks, preference.answers(rows[picks], winners))
preference.utility(state.posterior, items).mean   # higher is preferred
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from bayesal import _checks, _chunks, _shown, errors, select
from bayesal.posteriors._gp._exact import GPState, latent
from bayesal.posteriors._gp._kernels import kernel_of
from bayesal.posteriors._preference import SIGNS
from bayesal.scores import probit
from bayesal.types import Array, ArrayLike, Gaussian, Key, Strategy

__all__ = [
    "answers",
    "bald",
    "pairs",
    "pool",
    "utility",
]

CHUNK = 1024  # pairs scored at a time
MOST_PAIRS = 10_000_000  # of a pool


def pairs(items: ArrayLike, rows: Int[ArrayLike, "P 2"]) -> Array:
    """Pairs of items as examples, `[P, 2, ...]`.

    Args:
      items: one item per row.
      rows: the two items of each pair.
    Raises:
      WrongShape; WrongIndex: a row outside the items, or an item compared with itself.

    >>> pairs(jnp.arange(6.0).reshape(3, 2), np.array([[2, 0]]))
    Array([[[4., 5.],
            [0., 1.]]], dtype=float32)
    """
    _checks.pool(items, "items")
    return jnp.asarray(items)[_rows(rows, len(items))]


def pool(key: int | Key, items: ArrayLike, size: int) -> tuple[Array, Int[np.ndarray, "P 2"]]:
    """Distinct random pairs of different items: examples `[P, 2, ...]` and rows `[P, 2]`.

    A pair and its reverse count as one.

    Args:
      key: fixes the pairs, and which item of each comes first.
      items: one item per row, at least 2.
      size: P, at most 10,000,000; all pairs if there are fewer.

    >>> x, rows = pool(jax.random.key(0), jnp.eye(3), 10)
    >>> sorted(map(sorted, rows.tolist()))
    [[0, 1], [0, 2], [1, 2]]
    """
    _checks.pool(items, "items")
    count = len(items)
    if count < 2:
        raise errors.WrongSize("items", f"`items` has {count} row; a comparison needs two.")
    size = min(_checks.at_least(1, size, "size", most=MOST_PAIRS), count * (count - 1) // 2)
    random = np.random.default_rng(np.asarray(jax.random.key_data(_checks.key(key))))
    seen: dict[tuple[int, int], None] = {}
    while len(seen) < size:  # above half of all pairs list them all; below, most draws are new
        if 2 * size > count * (count - 1) // 2:
            every = np.stack(np.triu_indices(count, 1), axis=1)
            seen = dict.fromkeys(map(tuple, every[random.permutation(len(every))[:size]].tolist()))
        else:
            drawn = np.sort(random.integers(0, count, (size, 2)), axis=1)
            seen |= dict.fromkeys(map(tuple, drawn[drawn[:, 0] < drawn[:, 1]].tolist()))
    rows = np.array(list(seen)[:size], np.int32)
    swap = random.random(size) < 0.5
    rows[swap] = rows[swap, ::-1]
    return pairs(items, rows), rows


def answers(rows: Int[ArrayLike, "P 2"], winners: Int[ArrayLike, " P"]) -> Int[np.ndarray, " P"]:
    """Labels of pairs: 1 where the first item won, 0 where the second won.

    Args:
      rows: the two items of each pair.
      winners: the preferred item of each pair.
    Raises:
      WrongLabel: a winner that is neither item. WrongIndex: an item compared with itself.

    >>> answers(np.array([[4, 7], [1, 2]]), np.array([7, 1])).tolist()
    [0, 1]
    """
    rows, winners = _rows(rows), np.asarray(_checks.plain(winners, "winners"))
    if winners.shape != (len(rows),) or not np.issubdtype(winners.dtype, np.integer):
        raise errors.WrongLabel(
            "winners",
            f"`winners` must be integers of shape ({len(rows)},), the preferred item of each pair; "
            f"got shape {winners.shape}, dtype {winners.dtype}.",
        )
    bad = np.flatnonzero((rows != winners[:, None]).all(axis=1))
    if len(bad):
        raise errors.WrongLabel(
            "winners",
            "`winners` must be one of the two items of each pair; positions "
            f"{_checks.listed(bad)} hold {_checks.listed(winners[bad])}.",
            bad,
        )
    return (rows[:, 0] == winners).astype(np.int32)


@_shown.named
def bald(*, kernel: str = "rbf", features: Callable[[Array], Array] | None = None) -> Strategy:
    """Strategy: pairs of the highest BALD of the latent difference, `scores.probit.bald`.

    In closed form, without draws. It prefers items unlike all others; to rank the given items,
    `acquire.epig` needs fewer answers (`experiments/preference.py`).

    Args:
      kernel, features: those of its `posteriors.preference`.
    References:
      Houlsby et al. 2011, section 5, https://arxiv.org/abs/1112.5745
    """

    found = kernel_of(kernel)

    def measure(aux, predictive, x):
        del aux
        difference = _difference(predictive.model.state, x, found, features)
        return probit.bald(difference.mean, jnp.maximum(difference.variance, 1e-9))

    def pick(key, aux, measured, again, available, size):
        del key, aux, again  # deterministic
        return select.top(measured, size, available=available)

    return Strategy(measure=measure, pick=pick, nested=True)


def utility(
    state: GPState,
    items: ArrayLike,
    *,
    kernel: str = "rbf",
    features: Callable[[Array], Array] | None = None,
) -> Gaussian:
    """Latent utility of items, mean and variance `[N]`, relative to the mean compared item.

    Args:
      state: the fitted state of `posteriors.preference`.
      items: one item per row.
      kernel, features: those of the posterior.
    """
    _checks.pool(items, "items")
    return _utility(state, jnp.asarray(items), kernel_of(kernel), features)


@functools.partial(jax.jit, static_argnames=("kernel", "features"))
def _utility(state, items, kernel, features):
    vectors = _vectors(items, features)
    both = jnp.stack([vectors, jnp.broadcast_to(state.offset, vectors.shape)], axis=1)
    found = _chunks.over_rows(
        lambda part: jax.tree.map(lambda a: a[0], latent(state, part, kernel=kernel, signs=SIGNS)),
        both,
        CHUNK,
    )
    return Gaussian(*found)


def _difference(state, x, kernel, features) -> Gaussian:
    both = jax.vmap(lambda pair: _vectors(pair, features))(x)
    return jax.tree.map(lambda a: a[0], latent(state, both, kernel=kernel, signs=SIGNS))


def _vectors(items, features):
    return jax.vmap(features or jnp.ravel)(items).astype(jnp.float32)


def _rows(rows: Any, count: int | None = None) -> np.ndarray:
    """Pairs of two different items, of `count` items where that is known."""
    host = np.asarray(_checks.plain(rows, "rows"))
    if host.ndim != 2 or host.shape[1] != 2 or not np.issubdtype(host.dtype, np.integer):
        raise errors.WrongShape(
            "rows",
            "`rows` must be integers [P pairs, 2], the two items of each pair; got shape "
            f"{host.shape}, dtype {host.dtype}.",
        )
    outside = (host < 0).any(axis=1) | (False if count is None else (host >= count).any(axis=1))
    bad = np.flatnonzero((host[:, 0] == host[:, 1]) | outside)
    if len(bad):
        of = "" if count is None else f" of the {count}"
        raise errors.WrongIndex(
            "rows",
            f"`rows` must be two different items{of} per pair; pairs {_checks.listed(bad)} are "
            f"{host[bad[:5]].tolist()}.",
            bad,
        )
    return host


def __dir__() -> list[str]:
    return __all__
