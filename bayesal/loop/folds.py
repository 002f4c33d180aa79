"""Cross-fitting: every labeled row is predicted by a fit that never saw it, in fixed shapes."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from bayesal import _chunks, _maths, likelihoods
from bayesal.predictive.bound import Predictive
from bayesal.retune._racing import Task
from bayesal.types import FitInfo, HParams, Key, Labeled, Posterior, Prediction, PyTree


class Folds(NamedTuple):
    """F folds of a labeled set of capacity M, and as number F the one that leaves nothing out, as
    row numbers; rows beyond the counts are padding.

    A fit on all labels is then one more fit of the same program.
    """

    train: Int[Array, "F+1 M"]
    train_count: Int[Array, " F+1"]
    test: Int[Array, "F+1 s"]
    test_valid: Bool[Array, "F+1 s"]


def split(key: Key, labeled: Labeled, folds: int, groups: Int[Array, " M"] | None = None) -> Folds:
    """Deal the rows `< count`, sorted by label (class or number) and at random within equals, to
    the folds in turn.

    Args:
      groups: rows of one number are dealt together, by their first label, larger groups first, each
        to the fold with the fewest rows: no fold has more rows than another by more than the
        largest group. Then every fold has room for all rows, and takes as long to predict.
    """
    capacity = labeled.y.shape[0]
    padded = -(-capacity // folds) * folds
    luck = jax.random.uniform(key, (capacity,))
    last = jnp.inf if jnp.issubdtype(labeled.y.dtype, jnp.floating) else jnp.iinfo(jnp.int32).max
    valid = jnp.arange(capacity) < labeled.count
    label = jnp.where(valid, labeled.y, last)
    if groups is not None:
        return _grouped(luck, label, groups, valid, folds)
    order = jnp.lexsort((luck, label))  # padding last
    place = np.arange(padded)
    test = np.stack(
        [np.minimum(place[f::folds], capacity - 1) for f in range(folds)]
        + [np.zeros(padded // folds, int)]
    )
    held = np.stack(
        [place[f::folds] < capacity for f in range(folds)] + [np.zeros(padded // folds, bool)]
    )
    train = np.stack(
        [np.argsort(place[:capacity] % folds == f, kind="stable") for f in range(folds)]
    )
    kept = np.stack(
        [place[:capacity] % folds != f for f in range(folds)] + [np.ones(capacity, bool)]
    )
    train = jnp.concatenate([order[train], jnp.arange(capacity, dtype=order.dtype)[None]])
    return Folds(
        train, jnp.sum(kept & valid[None], axis=1), order[test], held & (test < labeled.count)
    )


def _grouped(luck: Array, label: Array, groups: Array, valid: Array, folds: int) -> Folds:
    """Whole groups, one after another, each to the fold with the fewest rows."""
    capacity = label.shape[0]
    number = numbered(groups)
    leader = jnp.minimum(
        jax.ops.segment_min(jnp.where(valid, jnp.arange(capacity), capacity), number, capacity),
        capacity - 1,
    )
    size = jax.ops.segment_sum(valid.astype(jnp.int32), number, capacity)
    turn = jnp.lexsort((luck, -size, label[leader], size == 0))

    def deal(k, carry):
        rows, fold = carry
        fewest = jnp.argmin(rows).astype(jnp.int32)
        return rows.at[fewest].add(size[turn[k]]), fold.at[turn[k]].set(fewest)

    fold = jax.lax.fori_loop(
        0, capacity, deal, (jnp.zeros(folds, jnp.int32), jnp.zeros(capacity, jnp.int32))
    )[1][number]
    member = (fold == jnp.arange(folds + 1)[:, None]) & valid
    rows = lambda those: jnp.argsort(~those, axis=1, stable=True)
    count = member.sum(axis=1)
    return Folds(
        rows(~member & valid),
        valid.sum() - count,
        rows(member),
        jnp.arange(capacity)[None] < count[:, None],
    )


def numbered(groups: Int[Array, " M"]) -> Int[Array, " M"]:
    """Groups numbered from 0 without gaps, in their order.

    >>> numbered(jnp.array([7, 3, 7])).tolist()
    [1, 0, 1]
    """
    order = jnp.argsort(groups)
    first = jnp.concatenate([jnp.ones(1, bool), groups[order][1:] != groups[order][:-1]])
    return (
        jnp.zeros(groups.shape, jnp.int32).at[order].set((jnp.cumsum(first) - 1).astype(jnp.int32))
    )


class Keys(NamedTuple):
    """Keys for the F folds' fits and the one on all labels: of where each begins, of itself, and of
    the draws that judge it and that calibrate by it.
    """

    begin: Array
    fit: Array
    judge: Array
    held_out: Array


def keys(key: Key, folds: int) -> Keys:
    """All that cross-fitting needs, at once: each call for random numbers takes long to compile."""
    return Keys(*jax.random.split(key, (len(Keys._fields), folds + 1)))


def beginnings(
    keys: Keys, posterior: Posterior, x: Array, begin: Callable[[PyTree], PyTree] | None = None
) -> PyTree:
    """States `[F+1, ...]` where the fits begin: new initializations, of which `begin` may replace
    that of the fit on all labels; `x` is one example.
    """
    # a loop: under vmap the initializers' random numbers take seconds to compile
    fresh = jax.lax.map(lambda key: posterior.init(key, x), keys.begin)
    if begin is None:
        return fresh
    last = begin(jax.tree.map(lambda leaf: leaf[-1], fresh))
    return jax.tree.map(lambda each, last: jnp.concatenate([each[:-1], last[None]]), fresh, last)


def task(
    keys: Keys,
    posterior: Posterior,
    labeled: Labeled,
    folds: Folds,
    num_draws: int,
    starts: PyTree,
    log_temperatures: Float[Array, " T"],
    prior_std: float = 1.0,
    groups: Int[Array, " M"] | None = None,
    final: bool = True,
    kept: bool = True,
) -> Task:
    """What a retuner's candidates are judged on: the NLL of the averaged prediction of `num_draws`
    draws, per row of a fold left out.

    Args:
      starts: where the fits begin (see `beginnings`).
      log_temperatures: at which they may be judged, under a normal prior of `prior_std`.
      groups: rows of one number are copies of one another, and count as one.
      final, kept: as in `Task`.
    """
    capacity, number = labeled.y.shape[0], folds.train.shape[0] - 1
    placed = jnp.where(folds.test_valid, folds.test, capacity)

    def fit(hparams, fold):
        at = lambda tree: jax.tree.map(lambda leaf: leaf[fold], tree)
        state, info = fit_apart(keys.fit[fold], posterior, at(starts), labeled, hparams, at(folds))
        test = folds.test[fold]
        predicted = Predictive(
            posterior, state, posterior.draw(keys.judge[fold], state, num_draws), jnp.float32(1.0)
        )(labeled.x[test])
        losses = jax.lax.map(
            lambda log_t: loss(predicted, labeled.y[test], jnp.exp(log_t)), log_temperatures
        ).T
        losses = jnp.where(jnp.any(info.failed_at >= 0), jnp.inf, losses).astype(
            jnp.float32
        )  # a candidate that diverged never wins
        return jnp.zeros((capacity, losses.shape[1]), jnp.float32).at[placed[fold]].set(
            losses, mode="drop"
        ), (state, info)

    def loss(predicted, y, temperature):
        return -_maths.log_mean_exp(
            likelihoods.log_likelihood(likelihoods.temper(predicted, temperature), y)
        )

    rows = (
        jnp.zeros((number, capacity), bool)
        .at[jnp.arange(number)[:, None], placed[:-1]]
        .set(True, mode="drop")
    )
    group = jnp.arange(capacity, dtype=jnp.int32) if groups is None else numbered(groups)
    return Task(fit, rows, group, 0.5 * jnp.square(log_temperatures / prior_std), final, kept)


def fits(
    keys: Keys,
    posterior: Posterior,
    labeled: Labeled,
    hparams: HParams,
    folds: Folds,
    starts: PyTree,
) -> tuple[PyTree, FitInfo]:
    """A fit for each fold on all rows but the fold's (arguments and results with an axis of folds;
    number F is the fit on all rows).
    """
    one = lambda key, state, fold: fit_apart(key, posterior, state, labeled, hparams, fold)
    return _chunks.over_fits(one, keys.fit, starts, folds)


def cross_fit(
    keys: Keys,
    posterior: Posterior,
    labeled: Labeled,
    hparams: HParams,
    folds: Folds,
    starts: PyTree,
) -> tuple[PyTree, tuple[PyTree, FitInfo]]:
    """Fit once per fold, and last on all rows: states `[F, ...]`, and the last state with its
    report.
    """
    fitted = fits(keys, posterior, labeled, hparams, folds, starts)
    return jax.tree.map(lambda leaf: leaf[:-1], fitted[0]), jax.tree.map(
        lambda leaf: leaf[-1], fitted
    )


def fit_apart(
    key: Key, posterior: Posterior, state: PyTree, labeled: Labeled, hparams: HParams, fold: Folds
) -> tuple[PyTree, FitInfo]:
    """A fit on all rows but those of one fold (leaves without the axis of folds)."""
    return posterior.fit(
        key, state, Labeled(labeled.x[fold.train], labeled.y[fold.train], fold.train_count), hparams
    )


def out_of_fold(
    keys: Keys,
    posterior: Posterior,
    labeled: Labeled,
    states: PyTree,
    folds: Folds,
    num_draws: int,
    temperature: Float[Array, ""],
) -> tuple[Prediction, Bool[Array, " M"]]:
    """Predictions of every labeled row by the fit (states `[F, ...]`) that never saw it, and which
    rows count: not those of which a broken fit says NaN.
    """
    held_out, held = folds.test[:-1], folds.test_valid[:-1]

    def one(key, state, rows):
        return Predictive(posterior, state, posterior.draw(key, state, num_draws), temperature)(
            labeled.x[rows]
        )

    parts = jax.lax.map(
        lambda args: one(*args), (keys.held_out[:-1], states, held_out)
    )  # leaves [F, K, s, ...]
    capacity = labeled.y.shape[0]
    where = jnp.where(held, held_out, capacity).reshape(-1)

    def placed(part):
        flat = jnp.moveaxis(part, 0, 1).reshape(num_draws, -1, *part.shape[3:])
        blank = jnp.full(
            (num_draws, capacity, *part.shape[3:]),
            -math.log(part.shape[3]) if part.ndim > 3 else 1.0,
            part.dtype,
        )
        return blank.at[:, where].set(flat, mode="drop")

    predicted = jax.tree.map(placed, parts)
    broken = [
        jnp.isnan(part).any(axis=(0, *range(2, part.ndim))) for part in jax.tree.leaves(predicted)
    ]
    return predicted, (jnp.arange(capacity) < labeled.count) & ~functools.reduce(
        jnp.logical_or, broken
    )
