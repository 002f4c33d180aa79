"""Stationary kernels: covariance matrices, and random Fourier features of the prior."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import errors
from bayesal.types import Array, Key

__all__ = ["MATERN52", "RBF", "Kernel"]


class Kernel(NamedTuple):
    """Stationary kernel of unit variance and unit length scale.

    value: `(squared distances) -> covariances`, 1 at 0.
    waves: `(key, F, D) -> [F, D]`, frequencies drawn from its spectral density.
    """

    value: Callable[[Array], Array]
    waves: Callable[[Key, int, int], Array]


def _student(key, waves, features):
    # the spectral density of Matern 5/2 is a Student t of 5 degrees: a normal over a root of chi^2
    normal_key, chi_key = jax.random.split(key)
    heavy = jnp.sqrt(
        2.5 / jax.random.gamma(chi_key, 2.5, (waves, 1))
    )  # sqrt(5 / chi^2 of 5 degrees)
    return jax.random.normal(normal_key, (waves, features)) * heavy


def _matern(squared):
    # the slope of a square root is infinite at 0, where the covariance itself is smooth
    apart = jnp.where(squared > 0, jnp.sqrt(5.0 * jnp.where(squared > 0, squared, 1.0)), 0.0)
    return (1.0 + apart + apart * apart / 3.0) * jnp.exp(-apart)


RBF = Kernel(
    lambda squared: jnp.exp(-0.5 * squared),
    lambda key, waves, features: jax.random.normal(key, (waves, features)),
)
MATERN52 = Kernel(_matern, _student)
KERNELS = {"rbf": RBF, "matern52": MATERN52}


def kernel_of(name: str) -> Kernel:
    """A kernel by its name.

    Raises:
      UnknownName: no such kernel.
    """
    if name not in KERNELS:
        raise errors.UnknownName(
            "kernel", f"`kernel` = {name!r} is not known: the kernels are {', '.join(KERNELS)}."
        )
    return KERNELS[name]


def squared_distances(a: Float[Array, "n D"], b: Float[Array, "m D"]) -> Float[Array, "n m"]:
    """|a_i - b_j|^2, never negative.

    >>> squared_distances(jnp.array([[0.0], [3.0]]), jnp.array([[1.0]]))
    Array([[1.],
           [4.]], dtype=float32)
    """
    # one matrix product instead of [n, m, D] differences; at full precision, for what is left of
    # near neighbors is a small difference of large numbers, which rounding can make negative
    product = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum(
        jnp.sum(a * a, axis=1)[:, None] + jnp.sum(b * b, axis=1)[None] - 2.0 * product, 0.0
    )


def covariance(
    kernel: Kernel, a: Float[Array, "n P D"], b: Float[Array, "m P D"], signs: tuple[int, ...]
) -> Float[Array, "n m"]:
    """Covariance of `sum_p signs_p g(a_ip)` and `sum_p signs_p g(b_jp)`, for g with this kernel:
    one part for a value, two for a difference.

    >>> pair = jnp.array([[[0.0], [0.0]]])  # the difference of g at one and the same place
    >>> float(covariance(RBF, pair, pair, (1, -1))[0, 0])
    0.0
    """
    # bilinear: Cov(sum_p s_p g(a_p), sum_q s_q g(b_q)) = sum_pq s_p s_q k(a_p, b_q)
    of_parts = lambda p, q: signs[p] * signs[q] * kernel.value(squared_distances(a[:, p], b[:, q]))
    sides = range(len(signs))
    return functools.reduce(jnp.add, [of_parts(p, q) for p in sides for q in sides])


def basis(
    waves: Float[Array, "F D"], a: Float[Array, "n P D"], signs: tuple[int, ...]
) -> Float[Array, "n 2*F"]:
    """Cosines and sines whose products have the covariance as their mean over frequencies (random
    Fourier features).

    References:
      Rahimi & Recht 2007.

    >>> at = basis(RBF.waves(jax.random.key(0), 4, 1), jnp.zeros((1, 1, 1)), (1,))
    >>> round(float(at[0] @ at[0]), 4)
    1.0
    """
    # cos(u - v) = cos u cos v + sin u sin v: the product of two rows is the mean over F frequencies
    # of cos(w . (a - b)), whose expectation is the kernel (Bochner)
    angles = jnp.matmul(a, waves.T, precision=jax.lax.Precision.HIGHEST)  # [n, P, F]
    both = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1) * waves.shape[0] ** -0.5
    return functools.reduce(jnp.add, [sign * both[:, p] for p, sign in enumerate(signs)])
