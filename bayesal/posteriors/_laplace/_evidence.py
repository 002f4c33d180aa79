"""The most probable weights of a layer, and the prior that its labels ask for."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from bayesal import _maths
from bayesal.posteriors._laplace._curvature import Curvature, Task, curvature, frame
from bayesal.types import Array

BOUND = math.log(1e4)  # of |log delta|: prior scales from 0.01 to 100
GRID, HALVINGS = 9, 16  # priors tried on a grid, then steps of bisection
NEWTON, CONJUGATE = 30, 30  # most steps for one mode, most products for one step
SHORTEST = 0.5**10  # of a step's length: below, rounding decides


def conjugate(
    product: Callable, slope: Float[Array, "D C"], scaled: Callable, within: Any = 1e-8
) -> Float[Array, "D C"]:
    """The solution of `product(x) = slope` by conjugate gradients, `scaled` being nearly its
    inverse; exact at once where it is the inverse. What is left of the slope has at most the share
    `within` of its squared length: a step of Newton's method is repeated anyway.
    """
    size = jnp.vdot(slope, slope)

    def step(carry):
        number, x, rest, direction, energy = carry
        moved = product(direction)
        # the length that makes what is left orthogonal to this direction
        length = energy / jnp.vdot(direction, moved)
        rest = rest - length * moved
        nearer = scaled(rest)
        # the next direction is conjugate to all before it: nothing found so far is undone
        new = jnp.vdot(rest, nearer)
        return number + 1, x + length * direction, rest, nearer + new / energy * direction, new

    first = scaled(slope)
    start = jnp.int32(0), jnp.zeros_like(slope), slope, first, jnp.vdot(slope, first)
    return jax.lax.while_loop(
        lambda carry: (jnp.vdot(carry[2], carry[2]) > within * size) & (carry[0] < CONJUGATE),
        step,
        start,
    )[1]


def shortened(objective: Callable, value: Float[Array, ""], at: Array, direction: Array) -> Array:
    """`at - length * direction` with the longest of 1, 1/2, 1/4, ... that does not raise the
    objective, whose value there is `value`.
    """
    # near the mode two values differ by rounding alone: a rise of 1e-5 is none
    worse = lambda length: objective(at - length * direction) > value + 1e-5 * jnp.abs(value)
    length = jax.lax.while_loop(
        lambda a: worse(a) & (a > SHORTEST), lambda a: 0.5 * a, jnp.float32(1.0)
    )
    return at - jnp.where(length > SHORTEST, length, 0.0) * direction


def mode(
    task: Task,
    weights: Float[Array, "D C"],
    delta: Float[Array, ""],
    left: Float[Array, "D D"],
    seen: Float[Array, "M D"],
) -> tuple[Float[Array, "D C"], Float[Array, "D C"]]:
    """The most probable weights, and the Kronecker product's diagonal there: Fisher scoring. Exact
    for normal noise.
    """
    objective = lambda w: task.nll(w) + 0.5 * delta * jnp.sum(jnp.square(w))

    def step(carry):
        number, weights, _, _ = carry
        here = curvature(task, weights, left, seen)
        value, slope = jax.value_and_grad(objective)(weights)
        # the precision is [D C, D C]; its products with a vector need the features alone, and the
        # Kronecker product nearest to it is inverted in its frame
        product = lambda v: (
            jnp.einsum("md,mcf,mf->dc", here.features, here.fisher, here.features @ v) + delta * v
        )
        scaled = lambda v: (
            left @ (left.T @ v @ here.right / (here.products() + delta)) @ here.right.T
        )
        new = shortened(objective, value, weights, conjugate(product, slope, scaled))
        return (
            number + 1,
            new,
            here.products(),
            jnp.max(jnp.abs(new - weights)) > 1e-6 * jnp.max(jnp.abs(new)),
        )

    start = jnp.int32(0), weights, jnp.zeros_like(weights), jnp.bool_(True)
    return jax.lax.while_loop(lambda carry: carry[3] & (carry[0] < NEWTON), step, start)[1:3]


class Search(NamedTuple):
    """Where the search for a prior stands: the last place looked at, and the bracket of the best
    crossing, with weights to begin from there.
    """

    weights: Float[Array, "D C"]
    place: Float[Array, ""]
    rise: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    value: Float[Array, ""]
    begin: Float[Array, "D C"]


@_maths.precise
def settle(
    task: Task, outputs: int, otherwise: Float[Array, ""], tune: bool
) -> tuple[Float[Array, "D C"], Float[Array, ""], Bool[Array, ""], Curvature]:
    """The mode, the prior's precision, whether the labels determined it (if not, or not asked to,
    it is `otherwise`), and the curvature there.

    The precision is where the evidence is stationary with the curvature held: `delta sum w^2 = sum
    l / (l + delta)`, for the mode w at delta and the diagonal l of the Kronecker product (its
    eigenvalues, where all rows tell as much). For normal noise that is the maximum of the evidence.
    It is bracketed on a grid from strong priors to weak ones, each mode beginning where the last
    one ended, and bisected; of several, that of the highest evidence.

    References:
      MacKay 1992, The evidence framework applied to classification networks
    """
    left, _ = frame(task.features, task.weight)
    seen = task.features @ left
    none, fallback = jnp.zeros((task.features.shape[1], outputs), jnp.float32), jnp.log(otherwise)
    grid, halvings = (GRID, HALVINGS) if tune else (0, 1)

    def look(i, at):  # one loop for grid and bisection: what is in it compiles once
        first = i < grid
        # the grid runs from the strongest prior down, each mode beginning where the last one ended:
        # from 0 outward the steps stay short. Bisection begins at the best crossing's own mode.
        place = jnp.where(first, BOUND - 2 * BOUND / (GRID - 1) * i, 0.5 * (at.low + at.high))
        delta = jnp.exp(place)
        begin = jnp.where(i == grid, at.begin, at.weights)
        weights, eigenvalues = mode(task, begin, delta, left, seen)
        # MacKay's condition: as many well-determined weights as the prior's energy accounts for.
        # `rise` is twice the evidence's slope along log delta, with the curvature held.
        size = delta * jnp.sum(jnp.square(weights))
        rise = jnp.sum(eigenvalues / (eigenvalues + delta)) - size
        value = -task.nll(weights) - 0.5 * size - 0.5 * jnp.sum(jnp.log1p(eigenvalues / delta))
        # a maximum lies where the slope changes from - to + on the way down; of several, the one of
        # highest evidence. The first place has no predecessor: its `rise` before is inf.
        found = first & (at.rise < 0) & (rise >= 0) & (value > at.value)
        low = jnp.where(found | (~first & (rise > 0)), place, at.low)
        high = jnp.where(found, at.place, jnp.where(~first & (rise <= 0), place, at.high))
        return Search(
            weights=weights,
            place=place,
            rise=rise,
            low=low,
            high=high,
            value=jnp.where(found, value, at.value),
            begin=jnp.where(found, weights, at.begin),
        )

    # without a crossing the bracket stays at `otherwise`, and bisection stands still there
    start = Search(
        weights=none,
        place=fallback,
        rise=jnp.float32(jnp.inf),
        low=fallback,
        high=fallback,
        value=jnp.float32(-jnp.inf),
        begin=none,
    )
    end = jax.lax.fori_loop(0, grid + halvings, look, start)
    delta, determined = jnp.exp(end.place), end.value > -jnp.inf
    return end.weights, delta, determined, curvature(task, end.weights, left, seen)
