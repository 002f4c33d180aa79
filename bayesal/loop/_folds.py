"""Cross-fitting: every labeled row is predicted by a fit that never saw it, in fixed shapes."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from bayesal import _chunks, likelihoods
from bayesal.predictive._bound import bind
from bayesal.retune._racing import Task
from bayesal.types import Array, FitInfo, HParams, Key, Labeled, Posterior, Prediction, PyTree


class Folds(NamedTuple):
    """Row indices of F cross-validation folds of a labeled set of capacity M.

    Index F trains on all labels, so that the final fit reuses the same compiled program. Entries
    past the counts are padding.
    """

    train: Int[Array, "F+1 M"]
    train_count: Int[Array, " F+1"]
    test: Int[Array, "F+1 s"]
    test_valid: Bool[Array, "F+1 s"]


def split(
    key: Key,
    labeled: Labeled,
    folds: int,
    groups: Int[Array, " M"] | None = None,
    strata: Array | None = None,
) -> Folds:
    """Deal the rows `< count`, sorted by stratum and at random within equals, to the folds in turn:
    no fold has more rows of a class than another by more than one.

    Args:
      groups: rows of one number are dealt together, by their first label, larger groups first, each
        to the fold with the fewest rows: no fold has more rows than another by more than the
        largest group. Then every fold has room for all rows, and takes as long to predict.
      strata: a class or a number per row; default the labels themselves.
    """
    strata = labeled.y if strata is None else strata
    capacity = strata.shape[0]
    padded = -(-capacity // folds) * folds
    luck = jax.random.uniform(key, (capacity,))
    last = jnp.inf if jnp.issubdtype(strata.dtype, jnp.floating) else jnp.iinfo(jnp.int32).max
    valid = jnp.arange(capacity) < labeled.count
    strata = jnp.where(valid, strata, last)
    if groups is not None:
        return _grouped(luck, strata, groups, valid, folds)
    order = jnp.lexsort((luck, strata))  # padding last
    # Card number p of the sorted rows goes to fold p mod F. Which cards a fold holds depends on the
    # capacity alone, so these tables are constants of the program; only `order` and `count` are
    # data. Cards >= count are padding, and as each fold's cards ascend, its padding comes last.
    place = np.arange(padded)
    test = np.stack(
        [np.minimum(place[f::folds], capacity - 1) for f in range(folds)]
        + [np.zeros(padded // folds, int)]  # fold F holds nothing out
    )
    held = np.stack(
        [place[f::folds] < capacity for f in range(folds)] + [np.zeros(padded // folds, bool)]
    )
    # the training rows of fold f: all cards of other folds first, in their order, then its own
    others = np.stack(
        [np.argsort(place[:capacity] % folds == f, kind="stable") for f in range(folds)]
    )
    kept = np.stack(
        [place[:capacity] % folds != f for f in range(folds)] + [np.ones(capacity, bool)]
    )
    # fold F trains on all rows in order of acquisition, as a fit without folds does
    train = jnp.concatenate([order[others], jnp.arange(capacity, dtype=order.dtype)[None]])
    return Folds(
        train=train,
        train_count=jnp.sum(kept & valid[None], axis=1),
        test=order[test],
        test_valid=jnp.asarray(held) & (test < labeled.count),
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
        train=rows(~member & valid),
        train_count=valid.sum() - count,
        test=rows(member),
        test_valid=jnp.arange(capacity)[None] < count[:, None],
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
    capacity, number = labeled.x.shape[0], folds.train.shape[0] - 1
    placed = jnp.where(folds.test_valid, folds.test, capacity)
    if labeled.weight is not None:
        counted = jnp.where(jnp.arange(capacity) < labeled.count, labeled.weight, 0.0)
        mean_weight = jnp.sum(counted) / jnp.maximum(labeled.count, 1)

    def fit(hparams, fold):
        at = lambda tree: jax.tree.map(lambda leaf: leaf[fold], tree)
        state, info = fit_apart(keys.fit[fold], posterior, at(starts), labeled, hparams, at(folds))
        test = folds.test[fold]
        predicted = bind(
            posterior, state, posterior.draw(keys.judge[fold], state, num_draws), jnp.float32(1.0)
        )(labeled.x[test])
        y = jax.tree.map(lambda leaf: leaf[test], labeled.y)
        judge = lambda log_t: likelihoods.judged(likelihoods.temper(predicted, jnp.exp(log_t)), y)
        losses = jax.lax.map(judge, log_temperatures).T
        if labeled.weight is not None:  # so that their mean over all rows is the weighted mean
            losses = losses * (labeled.weight[test] / mean_weight)[:, None]
        failed = jnp.any(info.failed_at >= 0)
        losses = jnp.where(failed, jnp.inf, losses).astype(jnp.float32)  # and never wins
        by_row = jnp.zeros((capacity, losses.shape[1]), jnp.float32)
        return by_row.at[placed[fold]].set(losses, mode="drop"), (state, info)

    rows = (
        jnp.zeros((number, capacity), bool)
        .at[jnp.arange(number)[:, None], placed[:-1]]
        .set(True, mode="drop")
    )
    group = jnp.arange(capacity, dtype=jnp.int32) if groups is None else numbered(groups)
    return Task(
        fit=fit,
        rows=rows,
        group=group,
        prior=0.5 * jnp.square(log_temperatures / prior_std),
        final=final,
        kept=kept,
    )


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
    part = rows_of(labeled, fold.train, fold.train_count)
    return posterior.fit(key, state, part, hparams)


def rows_of(labeled: Labeled, rows: Int[Array, " m"], count: Int[Array, ""]) -> Labeled:
    """Some rows of a labeled set, as a set of `count` rows and padding."""
    x, y, weight = jax.tree.map(lambda leaf: leaf[rows], (labeled.x, labeled.y, labeled.weight))
    return Labeled(x=x, y=y, count=count, weight=weight)


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
        return bind(posterior, state, posterior.draw(key, state, num_draws), temperature)(
            labeled.x[rows]
        )

    # leaves [F, K, s, ...]
    parts = jax.lax.map(lambda args: one(*args), (keys.held_out[:-1], states, held_out))
    capacity = labeled.x.shape[0]
    where = jnp.where(held, held_out, capacity).reshape(-1)

    def placed(part):
        flat = jnp.moveaxis(part, 0, 1).reshape(num_draws, -1, *part.shape[3:])
        # padding is a prediction too: uniform over classes, or a variance of 1
        blank = -math.log(part.shape[3]) if part.ndim > 3 else 1.0
        full = jnp.full((num_draws, capacity, *part.shape[3:]), blank, part.dtype)
        return full.at[:, where].set(flat, mode="drop")

    predicted = jax.tree.map(placed, parts)
    valid = jnp.arange(capacity) < labeled.count
    for part in jax.tree.leaves(predicted):
        valid &= ~jnp.isnan(part).any(axis=(0, *range(2, part.ndim)))
    return predicted, valid
