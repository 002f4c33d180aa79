"""More labels for a linear layer that is a normal already: Bayes' rule, at a cost that does not
depend on the labels it has seen.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _maths, errors, likelihoods
from bayesal.posteriors._laplace._curvature import Task
from bayesal.posteriors._laplace._evidence import NEWTON, shortened
from bayesal.posteriors._laplace._fisher import fisher_root
from bayesal.posteriors._laplace._structures import Structure
from bayesal.types import Array

LEAST = 1e-20  # information below which a label tells nothing
# a step that gains less (in nats, and relative to all) was the last: the next would gain the square
# of it
GAIN = 1e-6


@_maths.precise
def learn(
    task: Task, kept: Structure, weights: Float[Array, "D C"], factor: Any
) -> tuple[Float[Array, "D C"], Any, Float[Array, ""]]:
    """Mean and factor after the task's labels, and their log-probability given what was known, in
    nats.

    The normal that is there is the prior, the most probable weights are found by Fisher scoring,
    and the curvature of the new labels there is added to the precision. Exact for one mean with
    normal noise of known size: then all labels at once, one after the other and in any order are
    the same. For anything else it is Laplace's approximation once for each call, with the curvature
    of earlier labels as it was.

    Everything happens in the units of the normal's own noise and by orthogonal transformations, so
    that no precision is ever squared; for P weights it takes P^2 operations for each label, and P^3
    of one matrix product.

    References:
      Bierman 1977, Factorization methods for discrete sequential estimation (square roots);
      Spiegelhalter & Lauritzen 1990 (classes)
    """
    turn = kept.turn
    if turn is None:
        raise errors.WrongType(
            "update",
            "structure='diag' cannot add labels online: use 'full', or pass update='fresh'.",
        )
    outputs, moves = task.features @ weights, _moves(task, kept, weights, factor)
    makes = lambda z: kept.root(factor, z.reshape(weights.shape[::-1]).T)
    objective = lambda z: task.nll(weights + makes(z)) + 0.5 * jnp.sum(jnp.square(z))

    def linear(z):
        """Rows `[M C, P]` and targets `[M C]` whose squared distance is what the labels say, near
        z.
        """
        roots, targets = jax.vmap(lambda o, y: _squares(task, o, y))(outputs + moves @ z, task.y)
        # squares count as often as their row's weight says; those of absent rows are 0
        often = jnp.sqrt(task.weight)
        roots = jnp.where(often[:, None, None] > 0, often[:, None, None] * roots, 0.0)
        rows = jnp.einsum("mec,mcp->mep", roots, moves).reshape(-1, z.size)
        return rows, jnp.where(often[:, None] > 0, often[:, None] * targets, 0.0).ravel()

    def step(carry):
        number, z, value, _ = carry
        rows, targets = linear(z)
        new = shortened(objective, value, z, z - _nearest(rows, targets + rows @ z))
        after = objective(new)
        return number + 1, new, after, value - after > GAIN * (1.0 + jnp.abs(after))

    nowhere = jnp.zeros(weights.size, jnp.float32)
    start = jnp.int32(0), nowhere, objective(nowhere), jnp.bool_(True)
    z, value = jax.lax.while_loop(lambda carry: carry[3] & (carry[0] < NEWTON), step, start)[1:3]
    rows = linear(z)[0]
    q, triangle = jnp.linalg.qr(_above_one(rows), mode="complete")
    growth = 2.0 * jnp.sum(
        jnp.log(jnp.abs(jnp.diagonal(triangle)))
    )  # of the precision's logarithm: 1 + rows^T rows is its factor
    return (
        weights + makes(z),
        turn(factor, q[: z.size, rows.shape[0] :], growth),
        -value - 0.5 * growth,
    )


def _moves(
    task: Task, kept: Structure, weights: Float[Array, "D C"], factor: Any
) -> Float[Array, "M C P"]:
    """How each output changes with the noise that makes weights, outputs before features."""
    back = jax.linear_transpose(lambda z: kept.root(factor, z), weights)
    one = lambda f, c: back(jnp.outer(f, c))[0].T.ravel()
    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(
        task.features, jnp.eye(weights.shape[1], dtype=jnp.float32)
    )


def _squares(
    task: Task, outputs: Float[Array, " C"], y: Array
) -> tuple[Float[Array, "C C"], Float[Array, " C"]]:
    """A root of the information about one row's outputs, and the target of which `root.T @ target`
    is minus the loss's slope.
    """
    slope = jax.grad(
        lambda o: likelihoods.loss(task.likelihood, jnp.concatenate([o, task.fixed]), y)
    )(outputs)
    some = fisher_root(task.likelihood, jnp.concatenate([outputs, task.fixed]))[:, : outputs.size]
    power, turn = jnp.linalg.eigh(some.T @ some)
    width = jnp.sqrt(jnp.maximum(power, LEAST))
    return width[:, None] * turn.T, -(turn.T @ slope) / width


def _nearest(rows: Float[Array, "R P"], targets: Float[Array, " R"]) -> Float[Array, " P"]:
    """The z of least `|z|^2 + |rows z - targets|^2`."""
    q, triangle = jnp.linalg.qr(_above_one(rows))
    return (
        q[: rows.shape[1]]
        @ jax.lax.linalg.triangular_solve(
            triangle, targets[:, None], left_side=True, lower=False, transpose_a=True
        )[:, 0]
    )


def _above_one(rows: Float[Array, "R P"]) -> Float[Array, "PR R"]:
    """A matrix whose columns are at right angles to those of Z, for `Z Z^T = (1 + rows^T rows)^-1`
    and Z the upper part of a basis.
    """
    return jnp.concatenate([rows.T, jnp.eye(rows.shape[0], dtype=jnp.float32)])
