"""Curvature of a loss in the weights of one linear layer, the normal that it makes of them, and the
prior that its labels ask for.

A layer is `outputs [C] = features [D] @ weights [D, C]`, its prior independent normals of mean 0
and precision `delta`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from bayesal import _checks, _maths, errors, likelihoods
from bayesal.posteriors.laplace.fisher import fisher_root
from bayesal.types import Labeled, Likelihood

BOUND, GRID, HALVINGS = (
    math.log(1e4),
    9,
    16,
)  # of |log delta|: prior scales from 0.01 to 100; so many of them; then bisection
NEWTON, CONJUGATE = 30, 30  # most steps for one mode, most products for one step
SHORTEST = 0.5**10  # of a step's length: below, rounding decides


class Curvature(NamedTuple):
    """What labels say about a layer: features (0 in padding), each row's Fisher information, and
    the Kronecker product nearest to both.

    The product is `sum_i s_i f_i f_i^T (x) F`, for the mean information F of a row and each row's
    share of it, `s_i = <F_i, F> / <F, F>`. Of all products with F it is the nearest to `sum_i f_i
    f_i^T (x) F_i`; the same where all F_i are multiples of one matrix, as with one output or two
    classes. `power` and `right` are F's eigenvalues and eigenvectors; `energy` is the diagonal of
    the other part in the frame `left`, the eigenvectors of the features with equal shares.
    """

    features: Float[Array, "M D"]
    fisher: Float[Array, "M C C"]
    shares: Float[Array, " M"]
    left: Float[Array, "D D"]
    energy: Float[Array, " D"]
    right: Float[Array, "C C"]
    power: Float[Array, " C"]

    def products(self) -> Float[Array, "D C"]:
        """The Kronecker product's diagonal in the frame `left (x) right`: its eigenvalues where all
        shares are equal.
        """
        return self.energy[:, None] * self.power[None]


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


class Task(NamedTuple):
    """Labels for a layer to explain: rows that are not valid are padding; `fixed` are outputs
    beside the layer's.
    """

    likelihood: Likelihood
    features: Float[Array, "M D"]
    y: Array
    valid: Bool[Array, " M"]
    fixed: Float[Array, " R"]

    def nll(self, weights: Float[Array, "D C"]) -> Float[Array, ""]:
        """Negative log-likelihood of all labels, in nats."""
        one = lambda f, y: likelihoods.loss(
            self.likelihood, jnp.concatenate([f @ weights, self.fixed]), y
        )
        return jnp.sum(jnp.where(self.valid, jax.vmap(one)(self.features, self.y), 0.0))

    def fisher(self, weights: Float[Array, "D C"]) -> Float[Array, "M C C"]:
        """Each row's Fisher information about the layer's outputs."""

        def one(f):
            root = fisher_root(self.likelihood, jnp.concatenate([f @ weights, self.fixed]))[
                :, : weights.shape[1]
            ]
            return root.T @ root

        return jnp.where(self.valid[:, None, None], jax.vmap(one)(self.features), 0.0)


def task_of(
    likelihood: Likelihood,
    features: Float[Array, "M D"],
    labeled: Labeled,
    fixed: Float[Array, " R"],
) -> Task:
    """The rows `< count`; padding may hold anything, so its features and labels become 0."""
    valid = jnp.arange(labeled.y.shape[0]) < labeled.count
    y = _checks.as_float(labeled.y) if likelihood.real else labeled.y
    return Task(
        likelihood, jnp.where(valid[:, None], features, 0.0), jnp.where(valid, y, 0), valid, fixed
    )


def nothing(weights: Float[Array, "D C"]) -> Curvature:
    """The curvature before any label."""
    rows, columns = weights.shape
    zeros, eye = (
        (lambda *shape: jnp.zeros(shape, jnp.float32)),
        (lambda size: jnp.eye(size, dtype=jnp.float32)),
    )
    return Curvature(
        zeros(1, rows),
        zeros(1, columns, columns),
        zeros(1),
        eye(rows),
        zeros(rows),
        eye(columns),
        zeros(columns),
    )


def frame(features: Float[Array, "M D"]) -> tuple[Float[Array, "D D"], Float[Array, " D"]]:
    """Eigenvectors and eigenvalues of `features.T @ features`, from the features themselves: the
    small ones keep their digits.
    """
    triangle = jnp.linalg.qr(features, mode="r")
    triangle = jnp.pad(triangle, ((0, features.shape[1] - triangle.shape[0]), (0, 0)))
    _, singular, rows = jnp.linalg.svd(triangle)
    return rows.T, jnp.square(singular)


def shares(fisher: Float[Array, "M C C"], mean: Float[Array, "C C"]) -> Float[Array, " M"]:
    """How much each row has of the mean information: `<F_i, F> / <F, F>`; 1 where there is no
    information at all.

    >>> shares(jnp.array([[[1.0]], [[3.0]]]), jnp.array([[2.0]]))
    Array([0.5, 1.5], dtype=float32)
    """
    size = jnp.max(jnp.abs(mean))
    per = jnp.where(size > 0, size, 1.0)  # squares of small numbers vanish
    found = jnp.einsum("mcd,cd->m", fisher / per, mean / per) / jnp.maximum(
        jnp.sum(jnp.square(mean / per)), 1.0
    )
    return jnp.where(size > 0, jnp.maximum(found, 0.0), 1.0)


@_maths.precise
def curvature(
    task: Task, weights: Float[Array, "D C"], left: Float[Array, "D D"], seen: Float[Array, "M D"]
) -> Curvature:
    """The curvature at these weights; `left` is the features' frame, `seen` the features in it."""
    fisher = task.fisher(weights)
    mean = fisher.sum(0) / jnp.maximum(task.valid.sum(), 1)
    power, right = jnp.linalg.eigh(mean)
    parts = shares(fisher, mean)
    return Curvature(
        task.features, fisher, parts, left, parts @ jnp.square(seen), right, jnp.maximum(power, 0.0)
    )


# structures


class Kron(NamedTuple):
    """A normal of independent parts along `left (x) right`, which are bases of determinant 1 (or
    -1).
    """

    left: Float[Array, "D D"]
    right: Float[Array, "C C"]
    std: Float[Array, "D C"]


def _kron(curvature: Curvature, delta) -> Kron:
    left, energy = frame(jnp.sqrt(curvature.shares)[:, None] * curvature.features)
    return Kron(
        left, curvature.right, jax.lax.rsqrt(energy[:, None] * curvature.power[None] + delta)
    )


@_maths.precise
def _kron_turn(factor: Kron, matrix, growth) -> Kron:
    if factor.right.shape != (1, 1):
        raise errors.WrongType(
            "update",
            "a Kronecker product cannot take up the labels of a layer of "
            f"{factor.right.shape[0]} outputs one after the other: build the posterior with "
            "structure='full', or pass update='fresh'.",
        )
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
    std = jax.lax.rsqrt(curvature.products() + delta)
    rows, columns = std.shape
    seen = curvature.features @ curvature.left
    fisher = jnp.einsum("ec,med,df->mcf", curvature.right, curvature.fisher, curvature.right)
    block = lambda f: jnp.einsum(
        "ma,mdb->adb", seen, f[:, :, None] * seen[:, None]
    )  # one output against all: [D, C, D]
    blocks = jax.lax.map(block, jnp.moveaxis(fisher, 1, 0)).reshape(columns * rows, columns * rows)
    each = std.T.ravel()
    precision = (
        (blocks + delta * jnp.eye(each.size, dtype=jnp.float32)) * each[:, None] * each[None]
    )
    lower = jax.lax.linalg.cholesky(0.5 * (precision + precision.T), symmetrize_input=False)
    inner = jax.lax.linalg.triangular_solve(
        lower, jnp.eye(each.size, dtype=jnp.float32), left_side=True, lower=True, transpose_a=True
    )
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


# the mode, and the prior


def conjugate(
    product: Callable, slope: Float[Array, "D C"], scaled: Callable
) -> Float[Array, "D C"]:
    """The solution of `product(x) = slope` by conjugate gradients, `scaled` being nearly its
    inverse; exact at once where it is the inverse.
    """
    size = jnp.vdot(slope, slope)

    def step(carry):
        number, x, rest, direction, energy = carry
        moved = product(direction)
        length = energy / jnp.vdot(direction, moved)
        rest = rest - length * moved
        nearer = scaled(rest)
        new = jnp.vdot(rest, nearer)
        return number + 1, x + length * direction, rest, nearer + new / energy * direction, new

    first = scaled(slope)
    start = jnp.int32(0), jnp.zeros_like(slope), slope, first, jnp.vdot(slope, first)
    return jax.lax.while_loop(
        lambda carry: (jnp.vdot(carry[2], carry[2]) > 1e-8 * size) & (carry[0] < CONJUGATE),
        step,
        start,
    )[1]


def shortened(objective: Callable, value: Float[Array, ""], at: Array, direction: Array) -> Array:
    """`at - length * direction` with the longest of 1, 1/2, 1/4, ... that does not raise the
    objective, whose value there is `value`.
    """
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
    left, _ = frame(task.features)
    seen = task.features @ left
    none, fallback = jnp.zeros((task.features.shape[1], outputs), jnp.float32), jnp.log(otherwise)
    grid, halvings = (GRID, HALVINGS) if tune else (0, 1)

    def look(i, at):  # one loop for grid and bisection: what is in it compiles once
        first = i < grid
        place = jnp.where(first, BOUND - 2 * BOUND / (GRID - 1) * i, 0.5 * (at.low + at.high))
        delta = jnp.exp(place)
        weights, eigenvalues = mode(
            task, jnp.where(i == grid, at.begin, at.weights), delta, left, seen
        )
        size = delta * jnp.sum(jnp.square(weights))
        rise = jnp.sum(eigenvalues / (eigenvalues + delta)) - size
        value = -task.nll(weights) - 0.5 * size - 0.5 * jnp.sum(jnp.log1p(eigenvalues / delta))
        found = first & (at.rise < 0) & (rise >= 0) & (value > at.value)
        low = jnp.where(found | (~first & (rise > 0)), place, at.low)
        high = jnp.where(found, at.place, jnp.where(~first & (rise <= 0), place, at.high))
        return Search(
            weights,
            place,
            rise,
            low,
            high,
            jnp.where(found, value, at.value),
            jnp.where(found, weights, at.begin),
        )

    start = Search(
        none, fallback, jnp.float32(jnp.inf), fallback, fallback, jnp.float32(-jnp.inf), none
    )
    end = jax.lax.fori_loop(0, grid + halvings, look, start)
    return (
        end.weights,
        jnp.exp(end.place),
        end.value > -jnp.inf,
        curvature(task, end.weights, left, seen),
    )
