"""Strategies on features: `predictive.embed` (and, where asked, the mean prediction) of the whole
pool, then a selector.

A strategy is told only which rows are `available`. Where labeled points count as centers, the rows
that are not available are taken to be the labeled ones, as they are in a learner. Inside `within`
only the candidates are seen, and no labeled point counts. The features are held, N * D numbers; the
predictions are streamed, and of K draws only the mean is kept.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from bayesal import _chunks, _maths, select
from bayesal.acquire.ranked import CHUNK
from bayesal.types import Strategy


def k_center() -> Strategy:
    """Farthest-first among the features; labeled points (rows not available) count as centers. See
    `select.k_center`.

    Ties go to chance, by the key.
    """
    return _of_features(
        lambda key, features, size, **masks: select.k_center(features, size, key=key, **masks)
    )


def k_means_pp() -> Strategy:
    """k-means++ seeds among the features; labeled points (rows not available) count as centers. See
    `select.k_means_pp`.
    """
    return _of_features(select.k_means_pp)


def k_means(*, iterations: int = 10) -> Strategy:
    """The points nearest the centers of `size` clusters of the available points. See
    `select.k_means`.

    Args:
      iterations: steps of Lloyd's algorithm.
    """

    def strategy(key, predictive, x, available, size):
        return select.k_means(
            key, predictive.embed(x), size, available=available, iterations=iterations
        )

    return strategy


def typiclust(*, iterations: int = 10) -> Strategy:
    """The most typical points of the largest clusters without a label (rows not available are the
    labeled ones). See `select.typiclust`.

    Args:
      iterations: steps of Lloyd's algorithm.
    """
    return _of_features(
        lambda *args, **masks: select.typiclust(*args, iterations=iterations, **masks)
    )


def dpp(*, noise: float = 1e-3) -> Strategy:
    """Greedy maximum determinant of the features; labeled points (rows not available) are measured
    already. See `select.dpp`.

    Args:
      noise: see `select.dpp`.
    """
    return _of_features(
        lambda key, features, size, **masks: select.dpp(features, size, noise=noise, **masks)
    )


def badge(*, chunk: int = CHUNK) -> Strategy:
    """k-means++ on the gradients of the last layer; labeled points play no part, as published. See
    `select.badge`.

    Args:
      chunk: rows predicted at a time; it bounds the memory and changes nothing else.
    """

    def strategy(key, predictive, x, available, size):
        return select.badge(
            key, _mean(predictive, x, chunk)[None], predictive.embed(x), size, available=available
        )

    return strategy


def bait(*, ridge: float = 1.0, chunk: int = CHUNK) -> Strategy:
    """BAIT on the last layer; the information of labeled points (rows not available) counts. See
    `select.bait`.

    It holds N * C * C * D numbers, so a large pool needs screening: `within(2_000, scores.entropy,
    then=bait())`.

    Args:
      ridge: see `select.bait`.
      chunk: rows predicted at a time.
    """

    def strategy(key, predictive, x, available, size):
        del key  # deterministic
        factors = select.fisher_factors(_mean(predictive, x, chunk)[None], predictive.embed(x))
        return select.bait(factors, size, available=available, labeled=~available, ridge=ridge)

    return strategy


def _of_features(selector: Callable) -> Strategy:
    def strategy(key, predictive, x, available, size):
        return selector(key, predictive.embed(x), size, available=available, labeled=~available)

    return strategy


def _mean(predictive, x: Array, chunk: int) -> Float[Array, "N C"]:
    return _chunks.over_rows(
        lambda part: _maths.log_mean_exp(jnp.asarray(predictive(part))), x, chunk
    )
