"""Strategies on features: `predictive.embed`, and where asked the mean prediction, of every row.

A strategy is told only which rows are `available`. Where labeled points count as centers, the rows
that are not available are taken to be the labeled ones, as they are in a learner. Inside
`prefilter` only the candidates are seen, and no labeled point counts. The features are held, N * D
numbers; of K draws only the mean is kept.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, _maths, _shown, errors, select
from bayesal.acquire import _asked
from bayesal.select._bait import _fisher_factors
from bayesal.types import Strategy


@_shown.named
def k_center() -> Strategy:
    """Core-set: farthest-first among the features. See `select.k_center`.

    Labeled points (rows not available) count as centers. Ties are broken at random, by the key.

    References:
      Sener & Savarese 2018, https://arxiv.org/abs/1708.00489

    >>> strategy = k_center()
    """
    return _of_features(
        lambda key, features, size, **masks: select.k_center(features, size, key=key, **masks)
    )


@_shown.named
def k_means_pp() -> Strategy:
    """k-means++ seeds among the features. See `select.k_means_pp`.

    Labeled points (rows not available) count as centers.

    >>> strategy = k_means_pp()
    """
    return _of_features(select.k_means_pp)


@_shown.named
def k_means(*, iterations: int = 10) -> Strategy:
    """The points nearest the centers of `size` clusters of the available points.

    Args:
      iterations: steps of Lloyd's algorithm. See `select.k_means`.

    >>> strategy = k_means()
    """

    def pick(key, aux, measured, again, available, size):
        del aux, again
        return select.k_means(key, measured, size, available=available, iterations=iterations)

    return Strategy(measure=_embedded, pick=pick)


@_shown.named
def typiclust(*, iterations: int = 10) -> Strategy:
    """The most typical points of the largest clusters without a label. See `select.typiclust`.

    Rows that are not available are the labeled ones.

    Args:
      iterations: steps of Lloyd's algorithm.
    References:
      Hacohen et al. 2022, https://arxiv.org/abs/2202.02794

    >>> strategy = typiclust()
    """
    return _of_features(
        lambda *args, **masks: select.typiclust(*args, iterations=iterations, **masks),
        nested=False,  # as many clusters as points
    )


@_shown.named
def dpp(*, noise_variance: float = 1e-3) -> Strategy:
    """Greedy MAP of a determinantal point process on the features. See `select.dpp`.

    Labeled points (rows not available) count as measured.

    Args:
      noise_variance: of a measurement. See `select.dpp`.

    >>> strategy = dpp()
    """
    return _of_features(
        lambda key, features, size, **masks: select.dpp(
            features, size, noise_variance=noise_variance, **masks
        )
    )


@_shown.named
def badge() -> Strategy:
    """BADGE: k-means++ on the gradients of the last layer. See `select.badge`.

    Labeled points play no part, as published.

    References:
      Ash et al. 2020, https://arxiv.org/abs/1906.03671

    >>> strategy = badge()
    """

    def pick(key, aux, measured, again, available, size):
        del aux, again
        log_mean, features = measured
        return select.badge(key, log_mean[None], features, size, available=available)

    return Strategy(measure=_mean_and_embedded, pick=pick, nested=True)


@_shown.named
def bait(*, ridge: float = 1.0) -> Strategy:
    """BAIT on the last layer: Fisher information of the pool. See `select.bait`.

    The information of labeled points (rows not available) counts. It holds N * C * C * D numbers,
    so a large pool needs a prefilter: `prefilter(2_000, scores.entropy, then=bait())`.

    Args:
      ridge: prior precision. See `select.bait`.
    References:
      Ash et al. 2021, https://arxiv.org/abs/2106.09675

    >>> strategy = bait()
    """

    def pick(key, aux, measured, again, available, size):
        del key, aux, again  # deterministic
        log_mean, features = measured
        factors = _fisher_factors(log_mean[None], features)
        return select.bait(factors, size, available=available, labeled=~available, ridge=ridge)

    return Strategy(measure=_mean_and_embedded, pick=pick)


@_shown.named
def drop_query(*, rate: float = 0.75, masks: int = 3, iterations: int = 10) -> Strategy:
    """DropQuery: points whose class changes when features are dropped, one from each cluster.

    For pools of vectors. Inputs are multiplied by random masks, the same for every row; candidates
    are the rows whose predicted class changes under at least half of the masks. Of `size` clusters
    of the candidates' features, the points nearest the centers are picked. If fewer than `size`
    rows change, all available rows are candidates.

    Args:
      rate: share of the features that a mask drops, in (0, 1).
      masks: how many masks; each costs one more prediction of the pool.
      iterations: steps of Lloyd's algorithm.
    Raises:
      OutOfRange: a rate outside (0, 1). WrongSize: no masks. WrongShape: rows that are no vectors
        of real numbers.
    References:
      Gupte et al. 2024, https://arxiv.org/abs/2401.14555

    >>> strategy = drop_query()
    """
    if not 0.0 < rate < 1.0:
        raise errors.OutOfRange("rate", f"`rate` must lie between 0 and 1, got {rate!r}.")
    _checks.at_least(1, masks, "masks")

    def prepare(key, predictive, pool):
        del predictive, pool
        return jax.random.split(key)[0]

    def measure(key, predictive, x):
        if not hasattr(x, "dtype") or x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise errors.WrongShape(
                "pool",
                "`drop_query` drops features of the rows, so rows must be vectors of real numbers. "
                "Pass acquire.badge() for other pools.",
            )
        kept = jax.random.bernoulli(key, 1.0 - rate, (masks, x.shape[1])) / (1.0 - rate)
        guess = lambda rows: jnp.argmax(
            _maths.log_mean_exp(_asked.log_probs(predictive, rows)), axis=-1
        )
        if isinstance(x, np.ndarray):  # a model of NumPy arrays is asked with NumPy arrays
            kept = np.asarray(kept)
        before = guess(x)
        changed = sum(guess(x * mask.astype(x.dtype)) != before for mask in kept)
        return changed / masks, predictive.embed(x)

    def pick(key, aux, measured, again, available, size):
        del aux, again
        changed, features = measured
        candidates = available & (changed >= 0.5)
        candidates = jnp.where(jnp.sum(candidates) >= size, candidates, available)
        key = jax.random.split(key)[1]  # the first half drew the masks
        return select.k_means(key, features, size, available=candidates, iterations=iterations)

    return Strategy(measure=measure, pick=pick, prepare=prepare)


def _embedded(aux, predictive, x):
    del aux
    return predictive.embed(x)


def _mean_and_embedded(aux, predictive, x):
    del aux
    return _maths.log_mean_exp(_asked.log_probs(predictive, x)), predictive.embed(x)


def _of_features(selector: Callable, nested: bool = True) -> Strategy:
    def pick(key, aux, measured, again, available, size):
        del aux, again
        return selector(key, measured, size, available=available, labeled=~available)

    return Strategy(measure=_embedded, pick=pick, nested=nested)
