"""Strategies whose batch is informative as a whole: BatchBALD, and its Gaussian counterpart."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from bayesal import _checks, _shown, scores, select
from bayesal.acquire import _asked
from bayesal.acquire._prefilter import best, outward
from bayesal.select._batch_bald import searched, with_bald
from bayesal.select._lazy import certified, predicted
from bayesal.types import Selection, Strategy


@_shown.named
def batch_bald(
    *, configurations: int = 1000, candidates: int = 1000, grow: bool = False
) -> Strategy:
    """BatchBALD among the `candidates` points with the highest BALD scores.

    `Selection.certified` says whether the batch is provably the whole pool's. A gain never exceeds
    the BALD score, so it is if the smallest gain in the batch is at least the highest BALD score
    left out. If not, `Selection.gap` is how much is missing.

    Args:
      configurations: see `select.batch_bald`.
      candidates: how many points enter the joint computation, which holds K * candidates * C
        numbers.
      grow: search on where the candidates do not certify the batch. In memory, points come in the
        order of their BALD scores until no score beats the best gain, and nothing more is held. A
        pool on disk, on a mesh or of numbers doubles its candidates until they certify the batch.
    References:
      Kirsch et al. 2019, https://arxiv.org/abs/1906.08158

    >>> strategy = batch_bald(candidates=2_000)
    """
    _checks.at_least(1, candidates, "candidates")
    _checks.at_least(1, configurations, "configurations")

    def measure(aux, predictive, x):
        del aux
        return scores.bald(_asked.log_probs(predictive, x))

    def among(key, bald, again, available, size, count):
        kept = best(bald, available, max(count, size))
        inner = with_bald(
            key, again(kept.rows), bald[kept.rows], size, kept.available, configurations
        )
        return certified(outward(inner, kept), kept.left_out), kept.rows.shape[0]

    def pick(key, aux, measured, again, available, size):
        del aux
        found, count = among(key, measured, again, available, size, candidates)
        if not grow or count == measured.shape[0]:
            return found
        if again.pool.x is None:  # on the host
            wider = lambda count: among(key, measured, again, available, size, count)
            return widened(found, count, measured.shape[0], wider)
        pool = predicted(again.predictive, again.pool.x)
        search = lambda: searched(key, pool, measured, available, size, configurations)
        return grown(found, search)

    return Strategy(measure=measure, pick=pick, nested=True)


def widened(found: Selection, count: int, rows: int, wider: Callable) -> Selection:
    """What was found among `count` candidates, or among twice as many until it is certified."""
    while not bool(found.certified) and count < rows:
        found, count = wider(2 * count)
    return found


def grown(found: Selection, search) -> Selection:
    """What was found, if it is certified; else what is found in the whole pool."""
    whole = lambda: search()._replace(certified=jnp.bool_(True), gap=jnp.float32(0.0))
    return lax.cond(found.certified, lambda: found, whole)


@_shown.named
def log_det_gaussian() -> Strategy:
    """The batch of real labels that, together, tell most about the function.

    For posteriors of real labels. The noise of a label is the draws' mean variance. Every draw's
    mean at every point is held, K * N numbers; draws should outnumber picks. See
    `select.log_det_gaussian`.

    >>> strategy = log_det_gaussian()
    """

    def measure(aux, predictive, x):
        del aux
        found = _asked.moments(predictive, x)
        return found.mean.T, jnp.mean(found.variance, axis=0)

    def pick(key, aux, measured, again, available, size):
        del key, aux, again  # deterministic
        means, noise_variances = measured
        return select.log_det_gaussian(means.T, noise_variances, size, available=available)

    return Strategy(measure=measure, pick=pick, nested=True)
