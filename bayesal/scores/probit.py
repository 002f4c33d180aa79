"""Closed-form BALD where the latent function is Gaussian and the label is probit: classification in
two, and preferences.

P(y = 1 | f) = Phi(f), f ~ N(mean, variance). With label noise of standard deviation s pass `mean /
s` and `variance / s**2`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from bayesal import _checks, _maths, errors
from bayesal.types import Array, ArrayLike

__all__ = [
    "bald",
    "preference",
]

SPREAD = (
    math.pi * math.log(2) / 2
)  # the entropy of Phi(x), in bits, is nearly exp(-x^2 / (2 SPREAD))


def bald(mean: Float[ArrayLike, "*B"], variance: Float[ArrayLike, "*B"]) -> Float[Array, "*B"]:
    """Mutual information between a probit label and its latent value, in nats.

    h(Phi(m / sqrt(v + 1))) - log 2 * sqrt(c / (v + c)) exp(-m^2 / (2 (v + c))),  c = pi log(2) / 2;
     0 <= value <= log 2.

    The second term stands for the mean entropy of a label whose latent value is known, h(Phi(f))
    being nearly a bell curve. That errs by at most 0.003 bits (0.002 nats), so scores below it say
    no more than "little"; what would come out negative is 0.

    Args:
      mean: of the latent value.
      variance: of the latent value, > 0; noise is not part of it.
    Returns:
      Higher is more worth labeling.
    Raises:
      NonFinite, OutOfRange (variance <= 0), WrongShape: the argument by name.
    References:
      Houlsby et al. 2011, section 4, https://arxiv.org/abs/1112.5745

    >>> nothing_to_learn, much_to_learn = bald(jnp.zeros(2), jnp.array([1e-6, 1e6]))
    >>> round(float(nothing_to_learn), 3), round(float(much_to_learn), 3)
    (0.0, 0.692)
    """
    mean = _checks.numbers(mean, "mean", "[...]")
    return _bald(
        mean, _checks.numbers(variance, "variance", "as `mean`", shape=mean.shape, above=0.0)
    )


@jax.jit
def _bald(mean: Float[Array, "*B"], variance: Float[Array, "*B"]) -> Float[Array, "*B"]:
    x = mean / jnp.sqrt(variance + 1.0)
    label = jax.scipy.special.log_ndtr(jnp.stack([x, -x], axis=-1))
    known = (
        math.log(2)
        * jnp.sqrt(SPREAD / (variance + SPREAD))
        * jnp.exp(-0.5 * jnp.square(mean) / (variance + SPREAD))
    )
    return jnp.clip(_maths.entropy(label) - known, 0.0, math.log(2))


def preference(
    mean: Float[ArrayLike, " N"], cov: Float[ArrayLike, "N N"], pairs: Int[ArrayLike, "P 2"]
) -> Float[Array, " P"]:
    """Information in the answer to "is i better than j?" about the items' latent worth, in nats.

    bald(m_i - m_j, v_ii + v_jj - 2 v_ij), as P(i over j | f) = Phi(f_i - f_j);  0 <= value <= log
    2, symmetric in i and j.

    Args:
      mean: of the latent worth of N items.
      cov: its covariance.
      pairs: rows `(i, j)` of two different items.
    Returns:
      One score per pair. Higher is more worth asking.
    Raises:
      WrongIndex: a pair that is not two different items. OutOfRange: `cov` is no covariance (it is
        not symmetric, or gives a
      difference a negative variance). NonFinite, WrongShape: the argument by name.
    References:
      Houlsby et al. 2011, section 5, https://arxiv.org/abs/1112.5745

    >>> worth = jnp.diag(jnp.array([1.0, 1.0, 9.0]))  # little is known about the third item
    >>> preference(jnp.zeros(3), worth, jnp.array([[0, 1], [0, 2]])).round(2)
    Array([0.28, 0.48], dtype=float32)
    """
    mean = _checks.numbers(mean, "mean", "[N items]", ndim=1)
    items = mean.shape[0]
    cov = _checks.numbers(cov, "cov", "[N items, N items]", shape=(items, items))
    if (
        not hasattr(pairs, "dtype")
        or not jnp.issubdtype(pairs.dtype, jnp.integer)
        or pairs.ndim != 2
        or pairs.shape[1] != 2
    ):
        raise errors.WrongShape(
            "pairs",
            f"`pairs` must be integers of shape [P, 2]; got {type(pairs).__name__} of shape "
            f"{np.shape(pairs)}.",
        )
    if _checks.concrete(pairs):
        host = np.asarray(pairs)
        bad = np.flatnonzero(
            (host[:, 0] == host[:, 1]) | (host < 0).any(1) | (host >= items).any(1)
        )
        if len(bad):
            raise errors.WrongIndex(
                "pairs",
                f"`pairs` must hold two different items of the {items} in each row; rows "
                f"{_checks.listed(bad)} do not.",
                bad,
            )
    if _checks.concrete(cov, pairs):
        _refuse_covariance(np.asarray(cov), np.asarray(pairs))
    return _preference(mean, cov, jnp.array(pairs))


def _refuse_covariance(cov: np.ndarray, pairs: np.ndarray) -> None:
    tolerance = 1e-4 * max(np.max(np.abs(cov), initial=0.0), 1e-30)
    bad = np.argwhere(np.abs(cov - cov.T) > tolerance)
    if len(bad):
        raise errors.OutOfRange(
            "cov",
            "`cov` must be symmetric, but differs from its transpose at "
            f"{tuple(int(i) for i in bad[0])} and {len(bad) - 1} more places.",
            bad[:, 0],
        )
    i, j = pairs.T
    negative = np.flatnonzero(cov[i, i] + cov[j, j] - 2 * cov[i, j] < -tolerance)
    if len(negative):
        raise errors.OutOfRange(
            "cov",
            f"`cov` gives the difference of items {pairs[negative[0]].tolist()} a negative "
            "variance, as no covariance does.",
            pairs[negative].ravel(),
        )


@jax.jit
def _preference(
    mean: Float[Array, " N"], cov: Float[Array, "N N"], pairs: Int[Array, "P 2"]
) -> Float[Array, " P"]:
    i, j = pairs.T
    both = 0.5 * (cov[i, j] + cov[j, i])  # the same bits for (i, j) and (j, i)
    return _bald(mean[i] - mean[j], jnp.maximum(cov[i, i] + cov[j, j] - 2 * both, 0.0))


def __dir__() -> list[str]:
    return __all__
