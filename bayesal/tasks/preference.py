"""Which two items to compare next: candidate pairs as a pool, closed-form BALD over them, and the
worth of every item.

x, rows = preference.pool(key, items, 2_000)                        # pairs [P, 2, D], and which
items they are [P, 2] init, ask, tell, _ = bayesal.learner(posteriors.preference(),
acquire.epig(100), size=5, capacity=200)  # or preference.bald() state = tell(state, x, picks,
preference.answers(rows[picks], winners)) preference.worth(state.posterior, items).mean
         # higher is better liked
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from bayesal import _checks, _chunks, errors, select
from bayesal.posteriors.gp._exact import GPState, latent
from bayesal.posteriors.gp.kernels import RBF, Kernel
from bayesal.posteriors.preference import SIGNS
from bayesal.scores import probit
from bayesal.types import ArrayLike, Gaussian, Key, Strategy

CHUNK = 1024  # pairs scored at a time


def pairs(items: ArrayLike, rows: Int[ArrayLike, "P 2"]) -> Array:
    """Pairs of items as examples, `[P, 2, ...]`.

    Args:
      items: one item per row.
      rows: which two items each pair is of.
    Raises:
      WrongShape; WrongIndex: a row that is not of the items, or an item against itself.

    >>> pairs(jnp.arange(6.0).reshape(3, 2), np.array([[2, 0]]))
    Array([[[4., 5.],
            [0., 1.]]], dtype=float32)
    """
    _checks.pool(items, "items")
    return jnp.asarray(items)[_rows(rows, len(items))]


def pool(key: Key, items: ArrayLike, size: int) -> tuple[Array, Int[np.ndarray, "P 2"]]:
    """Random pairs of different items, no pair twice (in either order): examples `[P, 2, ...]` and
    rows `[P, 2]`.

    Args:
      key: which pairs, and which item of each comes first.
      items: one item per row, at least 2.
      size: P, how many pairs; all there are if there are fewer.

    >>> x, rows = pool(jax.random.key(0), jnp.eye(3), 10)
    >>> sorted(map(sorted, rows.tolist()))
    [[0, 1], [0, 2], [1, 2]]
    """
    _checks.pool(items, "items")
    count = len(items)
    if count < 2:
        raise errors.WrongSize("items", f"`items` holds {count} item; a comparison takes two.")
    size = min(_checks.at_least(1, size, "size"), count * (count - 1) // 2)
    random = np.random.default_rng(np.asarray(jax.random.key_data(_checks.key(key))))
    seen: dict[tuple[int, int], None] = {}
    while len(seen) < size:  # more than half of all pairs: list them; fewer: most throws are new
        if 2 * size > count * (count - 1) // 2:
            every = np.stack(np.triu_indices(count, 1), axis=1)
            seen = dict.fromkeys(map(tuple, every[random.permutation(len(every))[:size]].tolist()))
        else:
            throws = np.sort(random.integers(0, count, (size, 2)), axis=1)
            seen |= dict.fromkeys(map(tuple, throws[throws[:, 0] < throws[:, 1]].tolist()))
    rows = np.array(list(seen)[:size], np.int32)
    swap = random.random(size) < 0.5
    rows[swap] = rows[swap, ::-1]
    return pairs(items, rows), rows


def answers(rows: Int[ArrayLike, "P 2"], winners: Int[ArrayLike, " P"]) -> Int[np.ndarray, " P"]:
    """Labels of pairs: 1 where the first item won, 0 where the second did.

    Args:
      rows: the two items of each pair.
      winners: the item that won each.
    Raises:
      WrongLabel: a winner that is neither of the two.

    >>> answers(np.array([[4, 7], [1, 2]]), np.array([7, 1])).tolist()
    [0, 1]
    """
    rows, winners = np.asarray(rows), np.asarray(winners)
    if winners.shape != (len(rows),):
        raise errors.WrongLabel(
            "winners",
            f"`winners` must have shape ({len(rows)},), the item that won each pair; got "
            f"shape {winners.shape}.",
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


def bald(
    *, kernel: Kernel = RBF, features: Callable[[Array], Array] | None = None, chunk: int = CHUNK
) -> Strategy:
    """The pairs whose answer tells most about the items' worth, in closed form:
    `scores.probit.bald` of the latent difference.

    No draws are looked at, so none can be too few. It asks about items unlike all others; where a
    ranking of those there are is wanted, `acquire.epig` finds it sooner
    (`experiments/preference.py`).

    Args:
      kernel, features: those of the `posteriors.preference` that it goes with.
      chunk: pairs scored at a time.
    References:
      Houlsby et al. 2011, section 5, https://arxiv.org/abs/1112.5745
    """
    _checks.at_least(1, chunk, "chunk")

    def strategy(key, predictive, x, available, size):
        del key  # deterministic

        def scored(part):
            difference = _difference(predictive.state, part, kernel, features)
            return probit.bald(difference.mean, jnp.maximum(difference.variance, 1e-9))

        return select.top(_chunks.over_rows(scored, x, chunk), size, available=available)

    return strategy


def worth(
    state: GPState,
    items: ArrayLike,
    *,
    kernel: Kernel = RBF,
    features: Callable[[Array], Array] | None = None,
) -> Gaussian:
    """Latent worth of items, mean and variance `[N]`: how much better than the typical compared
    item (worths have no zero of their own).

    Args:
      state: the fitted state of `posteriors.preference`.
      items: one item per row.
      kernel, features: those of the posterior.
    """
    _checks.pool(items, "items")
    return _worth(state, jnp.asarray(items), kernel, features)


@functools.partial(jax.jit, static_argnames=("kernel", "features"))
def _worth(state, items, kernel, features):
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


def _rows(rows, count) -> np.ndarray:
    host = np.asarray(rows)
    if host.ndim != 2 or host.shape[1] != 2 or not np.issubdtype(host.dtype, np.integer):
        raise errors.WrongShape(
            "rows",
            "`rows` must be integers [P pairs, 2], the two items of each pair; got shape "
            f"{host.shape}, dtype {host.dtype}.",
        )
    bad = np.flatnonzero(
        (host[:, 0] == host[:, 1]) | (host < 0).any(axis=1) | (host >= count).any(axis=1)
    )
    if len(bad):
        raise errors.WrongIndex(
            "rows",
            f"`rows` must hold two different items of the {count}; pairs "
            f"{_checks.listed(bad)} hold {host[bad[:5]].tolist()}.",
            bad,
        )
    return host
