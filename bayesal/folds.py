"""Cross-fitting: every labeled row is predicted by a fit that never saw it, in fixed shapes."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from bayesal import chunks, maths, predictions
from bayesal.predictives import Predictive
from bayesal.retune import Task
from bayesal.types import FitInfo, HParams, Key, Labeled, Posterior, Prediction, PyTree


class Folds(NamedTuple):
    """F folds of a labeled set of capacity M, and as number F the one that leaves nothing out, as row numbers; rows beyond the counts are padding.

    A fit on all labels is then one more fit of the same program.
    """

    train: Int[Array, "F+1 M"]
    train_count: Int[Array, " F+1"]
    test: Int[Array, "F+1 s"]
    test_valid: Bool[Array, "F+1 s"]


def split(key: Key, labeled: Labeled, folds: int, groups: Int[Array, " M"] | None = None) -> Folds:
    """Deal the rows `< count`, sorted by label (class or number) and at random within equals, to the folds in turn.

    Args:
      groups: rows of one number are dealt together, by their first label, larger groups first, each to the fold with the fewest rows: no fold has more
        rows than another by more than the largest group. Then every fold has room for all rows, and takes as long to predict.
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
    test = np.stack([np.minimum(place[f::folds], capacity - 1) for f in range(folds)] + [np.zeros(padded // folds, int)])
    held = np.stack([place[f::folds] < capacity for f in range(folds)] + [np.zeros(padded // folds, bool)])
    train = np.stack([np.argsort(place[:capacity] % folds == f, kind="stable") for f in range(folds)])
    kept = np.stack([place[:capacity] % folds != f for f in range(folds)] + [np.ones(capacity, bool)])
    train = jnp.concatenate([order[train], jnp.arange(capacity, dtype=order.dtype)[None]])
    return Folds(train, jnp.sum(kept & valid[None], axis=1), order[test], held & (test < labeled.count))


def _grouped(luck: Array, label: Array, groups: Array, valid: Array, folds: int) -> Folds:
    """Whole groups, one after another, each to the fold with the fewest rows."""
    capacity = label.shape[0]
    number = numbered(groups)
    leader = jnp.minimum(jax.ops.segment_min(jnp.where(valid, jnp.arange(capacity), capacity), number, capacity), capacity - 1)
    size = jax.ops.segment_sum(valid.astype(jnp.int32), number, capacity)
    turn = jnp.lexsort((luck, -size, label[leader], size == 0))

    def deal(k, carry):
        rows, fold = carry
        fewest = jnp.argmin(rows).astype(jnp.int32)
        return rows.at[fewest].add(size[turn[k]]), fold.at[turn[k]].set(fewest)

    fold = jax.lax.fori_loop(0, capacity, deal, (jnp.zeros(folds, jnp.int32), jnp.zeros(capacity, jnp.int32)))[1][number]
    member = (fold == jnp.arange(folds + 1)[:, None]) & valid
    rows = lambda those: jnp.argsort(~those, axis=1, stable=True)
    count = member.sum(axis=1)
    return Folds(rows(~member & valid), valid.sum() - count, rows(member), jnp.arange(capacity)[None] < count[:, None])


def numbered(groups: Int[Array, " M"]) -> Int[Array, " M"]:
    """Groups numbered from 0 without gaps, in their order.

    >>> numbered(jnp.array([7, 3, 7])).tolist()
    [1, 0, 1]
    """
    order = jnp.argsort(groups)
    first = jnp.concatenate([jnp.ones(1, bool), groups[order][1:] != groups[order][:-1]])
    return jnp.zeros(groups.shape, jnp.int32).at[order].set((jnp.cumsum(first) - 1).astype(jnp.int32))


def task(
    key: Key, posterior: Posterior, labeled: Labeled, folds: Folds, num_draws: int, start: PyTree, log_temperatures: Float[Array, " T"],
    prior_std: float = 1.0, groups: Int[Array, " M"] | None = None, final: bool = True, kept: bool = True,
) -> Task:  # fmt: skip
    """What a retuner's candidates are judged on: the NLL of the averaged prediction of `num_draws` draws, per row of a fold left out.

    Args:
      start: where the fit on all labels begins.
      log_temperatures: at which they may be judged, under a normal prior of `prior_std`.
      groups: rows of one number are copies of one another, and count as one.
      final, kept: as in `Task`.
    """
    draw_key = jax.random.fold_in(key, 0)
    capacity = labeled.y.shape[0]
    keys, fresh = beginnings(key, posterior, labeled, folds, start)
    draw_keys = jax.random.split(draw_key, keys.shape[0])
    placed = jnp.where(folds.test_valid, folds.test, capacity)

    def fit(hparams, fold):
        at = lambda tree: jax.tree.map(lambda leaf: leaf[fold], tree)
        state, info = fit_apart(keys[fold], posterior, at(fresh), labeled, hparams, at(folds))
        test = folds.test[fold]
        predicted = Predictive(posterior, state, posterior.draw(draw_keys[fold], state, num_draws), jnp.float32(1.0))(labeled.x[test])
        losses = jax.lax.map(lambda log_t: loss(predicted, labeled.y[test], jnp.exp(log_t)), log_temperatures).T
        losses = jnp.where(jnp.any(info.failed_at >= 0), jnp.inf, losses).astype(jnp.float32)  # a candidate that diverged never wins
        return jnp.zeros((capacity, losses.shape[1]), jnp.float32).at[placed[fold]].set(losses, mode="drop"), (state, info)

    def loss(predicted, y, temperature):
        return -maths.log_mean_exp(predictions.log_likelihood(predictions.temper(predicted, temperature), y))

    number = keys.shape[0] - 1
    rows = jnp.zeros((number, capacity), bool).at[jnp.arange(number)[:, None], placed[:-1]].set(True, mode="drop")
    group = jnp.arange(capacity, dtype=jnp.int32) if groups is None else numbered(groups)
    return Task(fit, rows, group, 0.5 * jnp.square(log_temperatures / prior_std), final, kept)


def cross_fit(key: Key, posterior: Posterior, labeled: Labeled, hparams: HParams, folds: Folds, start: PyTree) -> tuple[PyTree, tuple[PyTree, FitInfo]]:
    """Fit once per fold, on all rows but the fold's, and last on all rows from `start` on: states `[F, ...]`, and the last state with its report."""
    keys, fresh = beginnings(key, posterior, labeled, folds, start)
    one = lambda key, state, fold: fit_apart(key, posterior, state, labeled, hparams, fold)
    fitted = chunks.over_fits(one, keys, fresh, folds)
    return jax.tree.map(lambda leaf: leaf[:-1], fitted[0]), jax.tree.map(lambda leaf: leaf[-1], fitted)


def beginnings(key: Key, posterior: Posterior, labeled: Labeled, folds: Folds, start: PyTree) -> tuple[Array, PyTree]:
    """Keys of the fits, and where they begin: each fold at a new initialization, the fit on all labels at `start`."""
    keys = fit_keys(key, folds)
    # a loop: under vmap the initializers' random numbers take seconds to compile
    fresh = jax.lax.map(lambda key: posterior.init(key, labeled.x[0]), jax.random.split(jax.random.fold_in(key, 2), keys.shape[0] - 1))
    return keys, jax.tree.map(lambda each, last: jnp.concatenate([each, last[None]]), fresh, start)


def fit_keys(key: Key, folds: Folds) -> Array:
    """A key for the fit of each fold, and last for the fit on all labels."""
    return jax.random.split(jax.random.fold_in(key, 1), folds.train.shape[0])


def fit_apart(key: Key, posterior: Posterior, state: PyTree, labeled: Labeled, hparams: HParams, fold: Folds) -> tuple[PyTree, FitInfo]:
    """A fit on all rows but those of one fold (leaves without the axis of folds)."""
    return posterior.fit(key, state, Labeled(labeled.x[fold.train], labeled.y[fold.train], fold.train_count), hparams)


def out_of_fold(
    key: Key, posterior: Posterior, labeled: Labeled, states: PyTree, folds: Folds, num_draws: int, temperature: Float[Array, ""]
) -> tuple[Prediction, Bool[Array, " M"]]:
    """Predictions of every labeled row by the fit (states `[F, ...]`) that never saw it, and which rows count."""
    held_out, held = folds.test[:-1], folds.test_valid[:-1]

    def one(key, state, rows):
        return Predictive(posterior, state, posterior.draw(key, state, num_draws), temperature)(labeled.x[rows])

    keys = jax.random.split(key, held.shape[0])
    parts = jax.lax.map(lambda args: one(*args), (keys, states, held_out))  # leaves [F, K, s, ...]
    capacity = labeled.y.shape[0]
    where = jnp.where(held, held_out, capacity).reshape(-1)

    def placed(part):
        flat = jnp.moveaxis(part, 0, 1).reshape(num_draws, -1, *part.shape[3:])
        blank = jnp.full((num_draws, capacity, *part.shape[3:]), -math.log(part.shape[3]) if part.ndim > 3 else 1.0, part.dtype)
        return blank.at[:, where].set(flat, mode="drop")

    return jax.tree.map(placed, parts), jnp.arange(capacity) < labeled.count
