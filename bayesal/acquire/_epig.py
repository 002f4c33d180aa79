"""Strategies that ask for what helps to predict targets: points that stand for later use."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from bayesal import _checks, _maths, _shown, errors, likelihoods, scores, select
from bayesal.acquire import _asked, _epig_numbers
from bayesal.acquire._joint import grown, widened
from bayesal.acquire._prefilter import best, outward
from bayesal.scores._epig import ceiling, checked_target, spread
from bayesal.select._batch_epig import highest, searched
from bayesal.select._lazy import Evidence, certified, on_host, predicted
from bayesal.types import ArrayLike, Gaussian, Mixture, Strategy

ROWS = 1024  # rows of the pool a whole-pool search looks at together


@_shown.named
def epig(targets: Any = 200, *, weights: Float[ArrayLike, " T"] | None = None) -> Strategy:
    """The points with the highest EPIG, each for itself; of classes or of real labels.

    Of classes, only points that could be among them are evaluated: those whose bound on EPIG (see
    `select.batch_epig`) beats what was found. Of real labels, draws' means and variances are
    compared, as `scores.regression.epig` does; a mixture counts by its moments.

    Args:
      targets: how many points of the pool, drawn at random, stand for what will be asked later; or
        these points themselves, an array [T, ...] (it becomes a constant of the program).
      weights: how much each target matters; see `scores.epig`.
    References:
      Bickford Smith et al. 2023, https://arxiv.org/abs/2304.08151

    >>> strategy = epig(targets=100)
    """
    targets = _checked(targets)

    def prepare(key, predictive, pool):
        return _prepared(key, predictive, pool, targets, weights)

    def measure(aux, predictive, x):
        if isinstance(aux, _epig_numbers.Targets):
            return _epig_numbers.epig(aux, predictive, x)
        return ceiling(_asked.log_probs(predictive, x), aux[2])

    def pick(key, aux, measured, again, available, size):
        del key
        if isinstance(aux, _epig_numbers.Targets):
            return select.top(measured, size, available=available)
        target = aux[:2]
        safe, nonfinite, constant = _maths.maskable(measured, available, size)
        gain, seen = highest(_evidence(again, measured.shape[0]), *target, safe, size)
        picked = select.top(jnp.where(seen, gain, -jnp.inf), size, available=available)
        count = lambda mask: jnp.sum(mask, dtype=jnp.float32)
        return picked._replace(
            nonfinite=nonfinite,
            constant=constant & (picked.scores[0] <= 0.0),
            evaluated=count(seen) / jnp.maximum(count(safe > -jnp.inf), 1.0),
        )

    return Strategy(measure=measure, pick=pick, prepare=prepare, nested=True)


@_shown.named
def batch_epig(
    targets: Any = 200,
    *,
    weights: Float[ArrayLike, " T"] | None = None,
    configurations: int = 1000,
    candidates: int = 1000,
    grow: bool = False,
) -> Strategy:
    """Batch EPIG among the `candidates` points with the highest bound on EPIG; of classes or of
    real labels.

    The bound orders points nearly as EPIG does and costs much less. Real labels are ordered by EPIG
    itself, and their batch is that of `select.batch_epig_gaussian`. `Selection.certified` says
    whether no point left out could have entered the batch: gains never exceed BALD scores, so none
    could if the smallest gain in the batch is at least the highest BALD score left out (of real
    labels: the highest information about the function). Gains about
    targets are far below BALD as a rule, so `certified` is rarely true, and `Selection.gap` (how
    much is missing) far above what a point left out would really gain.

    Args:
      targets, weights: see `epig`.
      configurations: see `select.batch_epig`; real labels need none.
      candidates: how many points enter the joint computation, which holds K * candidates * C
        numbers.
      grow: search on where the candidates do not certify the batch. In memory the pool is predicted
        once for every pick, and nothing more is held; of real labels, the draws' means at every
        point are. A pool on disk, on a mesh or of numbers
        doubles its candidates until they certify the batch.

    >>> strategy = batch_epig(targets=100, candidates=500)
    """
    targets = _checked(targets)
    _checks.at_least(1, candidates, "candidates")
    _checks.at_least(1, configurations, "configurations")

    def prepare(key, predictive, pool):
        return _prepared(jax.random.split(key)[0], predictive, pool, targets, weights)

    def among(key, aux, measured, again, available, size, count):
        bound, bald = measured
        kept = best(bound, available, max(count, size))
        inner = select.batch_epig(
            key,
            again(kept.rows),
            aux[0],
            size,
            weights=aux[1],
            available=kept.available,
            configurations=configurations,
        )
        left = _maths.maskable(bald, available, size)[0].at[kept.rows].set(-jnp.inf)
        return certified(outward(inner, kept), jnp.max(left)), kept.rows.shape[0]

    def pick(key, aux, measured, again, available, size):
        if isinstance(aux, _epig_numbers.Targets):
            return _epig_numbers.batch(aux, measured, again, available, size, candidates, grow)
        key = jax.random.split(key)[1]  # the first half drew the targets
        rows = available.shape[0]
        found, count = among(key, aux, measured, again, available, size, candidates)
        if not grow or count == rows:
            return found
        if again.pool.x is None:  # on the host
            wider = lambda count: among(key, aux, measured, again, available, size, count)
            return widened(found, count, rows, wider)
        pool = predicted(again.predictive, again.pool.x)
        search = lambda: searched(key, pool, *aux[:2], available, size, configurations, ROWS)
        return grown(found, search)

    return Strategy(measure=_with_bald, pick=pick, prepare=prepare, nested=True)


def _with_bald(aux, predictive, x):
    """What orders a batch's candidates, and what no gain can exceed."""
    if isinstance(aux, _epig_numbers.Targets):
        return _epig_numbers.with_bound(aux, predictive, x)
    log_probs = _asked.log_probs(predictive, x)
    return ceiling(log_probs, aux[2]), scores.bald(log_probs)


def _checked(targets):
    """An int, or a copy: what the caller does to the array later changes nothing."""
    if isinstance(targets, int | np.integer):
        return _checks.at_least(1, int(targets), "targets")
    if hasattr(targets, "toarray"):
        targets = targets.toarray()
    elif isinstance(targets, list | tuple):
        targets = np.asarray(targets)
    if not hasattr(targets, "shape") or not np.shape(targets) or targets.shape[0] == 0:
        raise errors.WrongSize(
            "targets",
            "`targets` must be how many rows of the pool stand for later use, an int, or these "
            f"points, an array [T, ...] of at least one; got {_shown.short(targets)}.",
        )
    targets = _checks.plain(targets, "targets")
    _checks.finite(targets, "targets")
    return np.array(targets) if _checks.concrete(targets) else targets


def _prepared(key, predictive, pool, targets, weights):
    """Predictions at the targets by the predictive's own draws: of classes with weights and their
    spread, of real labels as `Targets`.
    """
    if isinstance(targets, int):
        rows = jax.random.choice(key, pool.rows, (min(targets, pool.rows),), replace=False)
        x = pool.take(rows)
    else:
        x = jnp.asarray(targets)
    said = predictive(x)
    if isinstance(said, Gaussian | Mixture):
        return _epig_numbers.prepared(likelihoods.moments(said), weights)
    log_probs = _checks.log_probs(said, ndim=3)
    target = checked_target(log_probs, weights, log_probs.shape[0])
    return *target, spread(*target)


def _evidence(again, rows):
    """The pool as a lazy search sees it."""
    if again.pool.x is not None:
        return predicted(again.predictive, again.pool.x)
    draws, _, classes = again(jnp.zeros(1, jnp.int32)).shape
    return Evidence(at=again, over=None, shape=(draws, rows, classes), loop=on_host)
