"""How much of a precision matrix is kept: factors that turn unit noise into weights.

All are kept as factors of standard deviations, never as precisions, so that no condition number is
squared. Bases have determinant 1 (or -1), so that a determinant is read off the scales alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _maths, errors
from bayesal.posteriors._laplace._curvature import Curvature, frame
from bayesal.types import Array


class Structure(NamedTuple):
    """How much of a precision matrix is kept.

    factor:  `(Curvature, delta) -> factor`, a pytree.
    root:    `(factor, noise [D, C]) -> [D, C]`, linear: what makes unit noise into weights of that
      precision.
    log_det: `(factor) -> ` logarithm of the precision's determinant.
    turn:    `(factor, matrix [P, P], growth) -> factor` that first puts the noise (outputs before
             features) through the matrix, which adds `growth` to the logarithm; None where no
             factor of this structure can.
    """

    factor: Callable[[Curvature, Any], Any]
    root: Callable[[Any, Float[Array, "D C"]], Float[Array, "D C"]]
    log_det: Callable[[Any], Float[Array, ""]]
    turn: Callable[[Any, Float[Array, "P P"], Float[Array, ""]], Any] | None = None


class Kron(NamedTuple):
    """A normal of independent parts along `left (x) right`, which are bases of determinant 1 (or
    -1).
    """

    left: Float[Array, "D D"]
    right: Float[Array, "C C"]
    std: Float[Array, "D C"]


def _kron(curvature: Curvature, delta) -> Kron:
    # the frame of the features by the rows' shares, not the one by their weights alone
    left, energy = frame(curvature.features, curvature.shares)
    return Kron(
        left, curvature.right, jax.lax.rsqrt(energy[:, None] * curvature.power[None] + delta)
    )


@_maths.precise
def _kron_turn(factor: Kron, matrix, growth) -> Kron:
    if factor.right.shape != (1, 1):
        raise errors.WrongType(
            "update",
            f"structure='kron' cannot add labels online for {factor.right.shape[0]} outputs: build "
            "the posterior with structure='full', or pass update='fresh'.",
        )
    # the turned noise is no longer independent along the old axes: all scales become one, which the
    # matrix, put into the basis, makes up for
    std = _even(factor.std, growth)
    return Kron(
        factor.left * factor.std.T @ matrix / std, factor.right, jnp.full_like(factor.std, std)
    )


def _even(std, growth):
    """One standard deviation for all, of the same product once the precision's determinant has
    grown.
    """
    return jnp.exp(jnp.mean(jnp.log(std)) - 0.5 * growth / std.size)


@_maths.precise
def _kron_root(factor: Kron, noise):
    return factor.left @ (factor.std * noise) @ factor.right.T


class Full(NamedTuple):
    """A normal of any covariance: noise goes through `inner`, of determinant 1 (or -1), and then
    into a Kronecker product.
    """

    kron: Kron
    inner: Float[Array, "P P"]


@_maths.precise
def _full(curvature: Curvature, delta) -> Full:
    """With one output of known noise `inner` is 1, so ill-conditioned features cost no digits."""
    # scale by the Kronecker product first: what is left to factor is near the identity
    std = jax.lax.rsqrt(curvature.products() + delta)
    rows, columns = std.shape
    seen = curvature.features @ curvature.left
    fisher = jnp.einsum("ec,med,df->mcf", curvature.right, curvature.fisher, curvature.right)
    # one output against all, [D, C, D]: the whole product at once would hold [M, D, C, D]
    block = lambda f: jnp.einsum("ma,mdb->adb", seen, f[:, :, None] * seen[:, None])
    blocks = jax.lax.map(block, jnp.moveaxis(fisher, 1, 0)).reshape(columns * rows, columns * rows)
    each = std.T.ravel()
    precision = (
        (blocks + delta * jnp.eye(each.size, dtype=jnp.float32)) * each[:, None] * each[None]
    )
    # precision = L L', so L^-T makes unit noise into noise of that precision
    lower = jax.lax.linalg.cholesky(0.5 * (precision + precision.T), symmetrize_input=False)
    inner = jax.lax.linalg.triangular_solve(
        lower, jnp.eye(each.size, dtype=jnp.float32), left_side=True, lower=True, transpose_a=True
    )
    # its determinant moves into the scales
    size = jnp.exp(jnp.mean(jnp.log(jnp.diagonal(inner))))
    return Full(Kron(curvature.left, curvature.right, size * std), inner / size)


@_maths.precise
def _full_root(factor: Full, noise):
    return _kron_root(factor.kron, (factor.inner @ noise.T.ravel()).reshape(noise.shape[::-1]).T)


@_maths.precise
def _full_turn(factor: Full, matrix, growth) -> Full:
    size = jnp.exp(-0.5 * growth / matrix.shape[0])
    return Full(factor.kron._replace(std=size * factor.kron.std), factor.inner @ matrix / size)


def _diagonal(curvature: Curvature, delta) -> Float[Array, "D C"]:
    return jax.lax.rsqrt(
        jnp.einsum("md,mcc->dc", jnp.square(curvature.features), curvature.fisher) + delta
    )


_log_of = lambda std: -2.0 * jnp.sum(jnp.log(std))
STRUCTURES = {
    "full": Structure(_full, _full_root, lambda f: _log_of(f.kron.std), _full_turn),
    "kron": Structure(_kron, _kron_root, lambda f: _log_of(f.std), _kron_turn),
    "diag": Structure(_diagonal, lambda std, noise: std * noise, _log_of),
}
