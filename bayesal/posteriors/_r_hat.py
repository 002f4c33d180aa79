"""Convergence of Markov chains."""

import jax.numpy as jnp
from jaxtyping import Float

from bayesal import errors
from bayesal.types import Array

__all__ = ["r_hat"]


def r_hat(values: Float[Array, "chains samples *B"]) -> Float[Array, "*B"]:
    """Split R-hat, a convergence diagnostic: about 1 (below 1.01) once chains have mixed.

    It compares the spread of all chains together with that of their halves alone.

    Ask it of predictions, which can mix although weights (whose hidden units may be exchanged)
    cannot: with all S draws, `r_hat(predictive(x).reshape(chains, samples, *B))`. NaN where nothing
      varies.

    Raises:
      WrongSize: fewer than 4 samples of a chain.
    References:
      Gelman et al. 2013, section 11.4; Vehtari et al. 2021, https://arxiv.org/abs/1903.08008

    >>> r_hat(jnp.array([[0.0, 1.0, 0.0, 1.0], [5.0, 6.0, 5.0, 6.0]])).round(2)
    Array(4.14, dtype=float32)
    """
    half = values.shape[1] // 2
    if half < 2:
        raise errors.WrongSize(
            "values",
            f"`values` has {values.shape[1]} samples of each chain (shape {values.shape}): "
            "split R-hat needs 4 or more.",
        )
    halves = jnp.concatenate([values[:, :half], values[:, -half:]])
    within = jnp.mean(jnp.var(halves, axis=1, ddof=1), axis=0)
    between = jnp.var(jnp.mean(halves, axis=1), axis=0, ddof=1)
    return jnp.sqrt((half - 1) / half + between / within)
