"""Sample weights for labels that are not a random sample of the pool."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from bayesal import _checks, errors
from bayesal.types import Array, ArrayLike


def inverse_probability_weights(chances: Float[ArrayLike, " M"], pool: int) -> Float[Array, " M"]:
    """Weights of the levelled unbiased risk estimator, for labels acquired by sampling.

    v_m = 1 + (N - M) / (N - m) * (1 / ((N - m + 1) q_m) - 1) for the m-th of M labels of a pool of
    N. A weighted mean over the labels is then an unbiased estimate of the pool's mean. Uniform
    sampling has q_m = 1 / (N - m + 1) and weights of exactly 1; the expected weight is 1.

    Args:
      chances: q_m, the probability with which the m-th label was chosen among the N - m + 1
        remaining points, in order of acquisition. Deterministic strategies have none: use
        `poststratification_weights`, or an audit.
      pool: N.
    Raises:
      OutOfRange: chances outside (0, 1]. WrongSize: more labels than points.
    References:
      Farquhar et al. 2021, https://arxiv.org/abs/2101.11665

    >>> inverse_probability_weights(np.array([1 / 4, 1 / 3]), 4)
    Array([1., 1.], dtype=float32)
    """
    q = np.asarray(
        _checks.numbers(chances, "chances", "[M], one per label", ndim=1, above=0.0), np.float64
    )
    if len(bad := np.flatnonzero(q > 1)):
        raise errors.OutOfRange(
            "chances",
            f"`chances` must be probabilities, in (0, 1]; labels {_checks.listed(bad)} hold "
            f"{_checks.listed(q[bad])}.",
            bad,
        )
    pool = _checks.at_least(max(len(q), 1), pool, "pool")
    left = pool - np.arange(len(q))  # N - m + 1
    ahead = np.divide(pool - len(q), left - 1, out=np.zeros(len(q)), where=left > 1)
    return jnp.asarray(np.maximum(1 + ahead * (1 / (left * q) - 1), 0.0), jnp.float32)


def poststratification_weights(
    labeled: Float[ArrayLike, " M"], pool: Float[ArrayLike, " N"], *, strata: int = 5
) -> Float[Array, " M"]:
    """Post-stratification weights: labels get the pool's shares of the strata of a covariate.

    The covariate (a predicted confidence or entropy) cuts the pool into strata of equal size. A
    label's weight is the pool's share of its stratum over the labels' share. The bias vanishes as
    far as labels and pool are alike within strata. A stratum without labels is not represented.

    Args:
      labeled: the covariate of each labeled point, from predictions that did not see its label (out
        of fold).
      pool: the covariate of every point of the pool.
      strata: number of strata, at most 1,000,000; above one per ten labels the weights are noisy.

    >>> poststratification_weights(
    ...     np.array([0.1, 0.2, 0.9]), np.array([0.0, 0.3, 0.8, 1.0]), strata=2
    ... )
    Array([0.75, 0.75, 1.5 ], dtype=float32)
    """
    known, pool = (
        np.asarray(_checks.numbers(a, name, "[points]", ndim=1), np.float64)
        for a, name in ((labeled, "labeled"), (pool, "pool"))
    )
    for values, name in ((known, "labeled"), (pool, "pool")):
        if len(values) == 0:
            raise errors.WrongSize(name, f"`{name}` is empty: there is nothing to match.")
    edges = np.unique(
        np.quantile(
            pool,
            np.arange(1, _checks.at_least(1, strata, "strata", most=1_000_000)) / strata,
            method="inverted_cdf",
        )
    )
    which, of_pool = (np.searchsorted(edges, values, side="left") for values in (known, pool))
    share, wanted = (np.bincount(w, minlength=len(edges) + 1) / len(w) for w in (which, of_pool))
    return jnp.asarray((wanted / np.maximum(share, 1e-30))[which], jnp.float32)
