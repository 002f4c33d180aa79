"""Held-out predictions of the labels a learner has, for calibration outside the loop."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from bayesal import _checks, errors, likelihoods
from bayesal.loop import _classes as classing
from bayesal.loop import _folds as folds
from bayesal.loop._gathered import Gathered, gather, take, usable, view
from bayesal.loop._state import LearnerState, number_of_draws, round_key, without_report
from bayesal.types import Array, ArrayLike, FitInfo, Posterior, Prediction, PyTree


def out_of_fold(
    posterior: Posterior,
    state: LearnerState,
    x: Any,
    *,
    num_folds: int = 5,
    num_draws: int | None = None,
    groups: ArrayLike | None = None,
    class_weights: ArrayLike | Sequence[float] | str | None = None,
) -> tuple[Prediction, PyTree, Bool[Array, " M"]]:
    """Predictions of every label by fits that never saw it: `(prediction [K, M, ...], labels [M],
    valid [M])`, as a calibrator takes them.

    `num_folds` fresh fits with the state's hyperparameters, each on all labels but those of its
    fold, at T = 1; rows are the ledger's, and where not valid (padding, or a label of weight 0)
    they mean nothing: `prediction[:, valid]`, `labels[valid]`. Hyperparameters that were searched
    have seen all labels, and labels that were chosen are no fair sample of the pool: for what has
    to hold there (conformal limits) keep some apart.

    Args:
      posterior: the learner's.
      x: the pool.
      num_draws: default the ensemble's members, or 50.
      groups: as of the learner; default every row is one by itself.
      class_weights: as of the learner, by class number; the fits count labels by them.
    Raises:
      WrongSize: fewer labels, or groups, than folds; not the pool that the labels are of.
        WrongType: no posterior. TrainingFailed: of a fold. NonFinite: NaN in a labeled row.

    >>> # fitted = calibrate.temperature()(*bayesal.out_of_fold(posterior, state, pool))
    """
    _checks.a(Posterior, posterior, "posterior", "posteriors.mc_dropout(network)")
    pool = view(x)
    num_folds, ledger = _checks.num_folds(num_folds, None, True), state.ledger
    _checks.same_pool(ledger.rows(), pool.shape[0])
    order = usable(ledger)
    if len(order) < num_folds:
        raise errors.WrongSize(
            "num_folds",
            f"`num_folds` = {num_folds} folds need a label each, and there are {len(order)}.",
        )
    numbers = None if groups is None else np.asarray(_checks.groups(groups))
    _checks.groups_of(numbers, pool.shape[0])
    _checks.enough_groups(numbers, ledger.rows()[order], num_folds)
    features = take(pool, ledger.rows(), ledger.capacity)
    prediction, valid, info = _out_of_fold(
        without_report(state),
        classing.weighted(
            classing.class_weights(class_weights), gather(ledger, features, groups=numbers)
        ),
        posterior=posterior,
        num_folds=num_folds,
        draws=number_of_draws(posterior, num_draws),
    )
    if (failed := np.asarray(info.failed_at).reshape(num_folds, -1).max(axis=1) >= 0).any():
        _checks.finite_rows(features[order], ledger.rows()[order], int(state.round))
        raise errors.TrainingFailed(
            "state",
            f"{failed.sum()} of {num_folds} fits had a non-finite loss: lower "
            "`state.hparams.learning_rate`.",
        )
    # from the order of `gather` (padding last) back to the ledger's
    others = np.setdiff1d(np.arange(ledger.capacity), order)
    back = jnp.asarray(np.argsort(np.concatenate([order, others])))
    return jax.tree.map(lambda a: a[:, back], prediction), ledger.labels, valid[back]


@functools.partial(jax.jit, static_argnames=("posterior", "num_folds", "draws"))
def _out_of_fold(
    state: LearnerState, taken: Gathered, *, posterior: Posterior, num_folds: int, draws: int
) -> tuple[Prediction, Bool[Array, " M"], FitInfo]:
    deal, key = jax.random.split(round_key(state, 5))
    keys, labeled = folds.keys(key, num_folds), taken.labeled
    strata = likelihoods.labels_of(posterior).strata
    assert strata is not None
    split = folds.split(deal, labeled, num_folds, taken.groups, strata(labeled.y))
    apart = lambda tree: jax.tree.map(lambda leaf: leaf[:-1], tree)
    states, info = folds.fits(
        apart(keys),
        posterior,
        labeled,
        state.hparams,
        apart(split),
        folds.beginnings(apart(keys), posterior, labeled.x[0]),
    )
    predicted, valid = folds.out_of_fold(
        keys, posterior, labeled, states, split, draws, jnp.float32(1.0)
    )
    return predicted, valid, info
