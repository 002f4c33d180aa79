"""Cross-fitting: every labeled row is predicted by a fit that never saw it, in fixed shapes."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from bayesal import chunks, maths, predictions
from bayesal.predictives import Predictive
from bayesal.retune import Trial
from bayesal.types import HParams, Key, Labeled, Posterior, Prediction, PyTree


class Folds(NamedTuple):
    """F stratified folds of a labeled set of capacity M (m = M rounded up to a multiple of F), as row numbers."""

    train: Int[Array, "F t"]
    train_count: Int[Array, " F"]
    test: Int[Array, "F s"]
    test_valid: Bool[Array, "F s"]


def split(key: Key, labeled: Labeled, folds: int) -> Folds:
    """Deal the rows `< count`, sorted by label (class or number) and at random within equals, to the folds in turn."""
    capacity = labeled.y.shape[0]
    padded = -(-capacity // folds) * folds
    luck = jax.random.uniform(key, (capacity,))
    last = jnp.inf if jnp.issubdtype(labeled.y.dtype, jnp.floating) else jnp.iinfo(jnp.int32).max
    label = jnp.where(jnp.arange(capacity) < labeled.count, labeled.y, last)
    order = jnp.lexsort((luck, label))  # padding last
    order = jnp.concatenate([order, jnp.broadcast_to(order[-1:], padded - capacity)])
    place = np.arange(padded)
    test = np.stack([place[f::folds] for f in range(folds)])
    train = np.stack([place[place % folds != f] for f in range(folds)])
    return Folds(order[train], jnp.sum(train < labeled.count, axis=1), order[test], test < labeled.count)


def cross_fit(
    key: Key, posterior: Posterior, labeled: Labeled, hparams: HParams, folds: Folds, num_draws: int
) -> Trial:
    """Fit once per fold and lose on the fold left out: NLL of the averaged prediction of `num_draws` draws, per row."""
    fit_key, draw_key = jax.random.split(key)

    def one(key, state, rows, count):
        return posterior.fit(key, state, Labeled(labeled.x[rows], labeled.y[rows], count), hparams)

    number = folds.train.shape[0]
    init_keys, fit_keys = jax.random.split(fit_key, (2, number))
    # a loop: under vmap the initializers' random numbers take seconds to compile
    fresh = jax.lax.map(lambda key: posterior.init(key, labeled.x[0]), init_keys)
    states, info = chunks.over_fits(one, fit_keys, fresh, folds.train, folds.train_count)
    predicted, valid = out_of_fold(draw_key, posterior, labeled, states, folds, num_draws, jnp.float32(1.0))
    losses = -maths.log_mean_exp(predictions.log_likelihood(predicted, labeled.y))
    losses = jnp.where(jnp.any(info.failed_at >= 0), jnp.inf, losses)  # a candidate that diverged anywhere never wins
    return Trial(jnp.where(valid, losses, 0.0), valid, states)


def out_of_fold(
    key: Key, posterior: Posterior, labeled: Labeled, states: PyTree, folds: Folds, num_draws: int, temperature: Float[Array, ""]
) -> tuple[Prediction, Bool[Array, " M"]]:
    """Predictions of every labeled row by the fit that never saw it, and which rows count."""

    def one(key, state, rows):
        return Predictive(posterior, state, posterior.draw(key, state, num_draws), temperature)(labeled.x[rows])

    keys = jax.random.split(key, folds.test.shape[0])
    parts = jax.lax.map(lambda args: one(*args), (keys, states, folds.test))  # leaves [F, K, s, ...]
    capacity = labeled.y.shape[0]
    # padding rows stand in a fold too; a repeated one (test row == the last of the order) writes the same row again
    where = jnp.where(folds.test_valid, folds.test, capacity).reshape(-1)

    def placed(part):
        flat = jnp.moveaxis(part, 0, 1).reshape(num_draws, -1, *part.shape[3:])
        blank = jnp.full((num_draws, capacity, *part.shape[3:]), -math.log(part.shape[3]) if part.ndim > 3 else 1.0, part.dtype)
        return blank.at[:, where].set(flat, mode="drop")

    return jax.tree.map(placed, parts), jnp.arange(capacity) < labeled.count
