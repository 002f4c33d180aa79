"""A linear layer on given features with a normal over its weights, all outputs alike."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _maths, _training, errors
from bayesal.types import Array, Key, Labeled

# directions that a covariance knows apart: exact up to so many labels or features; with more of
# both, the directions left out have the prior's variance
RANK = 4096


class Layer(NamedTuple):
    """A normal over weights `[D, C]`: independent outputs of one covariance A.

    Features are centered and divided by one number, so that labeled points have length 1 on
    average; a constant 1 follows them, and its weights are the bias. With the labels' information
    `Q diag(energy) Q^T` and the prior's precision,
    `A = (Q diag(energy) Q^T + precision)^-1`.

    center, unit: of the features.
    mean:      of the weights; the bias is the last row.
    basis:     Q, orthonormal columns; columns of directions without a label may be 0.
    energy:    information of the labels along them.
    precision: of the prior, the same for all weights.
    """

    center: Float[Array, " d"]
    unit: Float[Array, ""]
    mean: Float[Array, "D C"]
    basis: Float[Array, "D r"]
    energy: Float[Array, " r"]
    precision: Float[Array, ""]


def empty(width: int, outputs: int) -> Layer:
    """Before any label: the prior alone, of precision 1."""
    rows = width + 1
    rank = min(rows, RANK)
    return Layer(
        center=jnp.zeros(width),
        unit=jnp.float32(1.0),
        mean=jnp.zeros((rows, outputs)),
        basis=jnp.zeros((rows, rank)),
        energy=jnp.zeros(rank),
        precision=jnp.float32(1.0),
    )


def vector(features: Callable[[Array], Array] | None, x: Any) -> Float[Array, " d"]:
    """The features of one example, flat, in float32."""
    return jnp.ravel((features or (lambda given: given))(x)).astype(jnp.float32)


def seen(layer: Layer, at: Float[Array, "*B d"]) -> Float[Array, "*B D"]:
    """Features as the layer sees them, its constant last."""
    if at.shape[-1] != layer.center.size:
        raise errors.WrongShape(
            "x",
            f"rows of `x` have {at.shape[-1]} features, and the labeled ones {layer.center.size}. "
            "The usual cause is one row in place of rows: pass x[None], of shape [n, D].",
        )
    ones = jnp.ones((*at.shape[:-1], 1), jnp.float32)
    return jnp.concatenate([(at - layer.center) / layer.unit, ones], axis=-1)


class Rows(NamedTuple):
    """Labeled rows: features as given, and weights; rows of weight 0 hold zeros."""

    at: Float[Array, "M d"]
    weight: Float[Array, " M"]


def rows_of(features: Callable[[Array], Array] | None, labeled: Labeled) -> Rows:
    """Features and weights of the labeled rows."""
    weight = _training.row_weights(labeled)
    there = (weight > 0).reshape(-1, *(1,) * (labeled.x.ndim - 1))
    # padding may hold NaN, and neither the features nor a product with 0 may see it
    at = jax.vmap(lambda x: vector(features, x))(jnp.where(there, labeled.x, 0))
    return Rows(jnp.where(weight[:, None] > 0, at, 0.0), weight)


def placed(layer: Layer, rows: Rows) -> Layer:
    """The layer with the center and the unit of these rows."""
    center, distance = _training.center_and_distance(rows.at, rows.weight)
    return layer._replace(center=center, unit=jnp.where(distance > 0, distance, 1.0))


@_maths.precise
def frame(rows: Float[Array, "M D"]) -> tuple[Float[Array, "D q"], Float[Array, " q"]]:
    """Orthonormal directions of rows, `q = min(M, D)`, and the sum of squares along each, largest
    first.
    """
    # singular values of a triangle, not eigenvalues of products: those have half the digits
    if rows.shape[0] >= rows.shape[1]:
        _, size, turned = jnp.linalg.svd(jnp.linalg.qr(rows, mode="r"), full_matrices=False)
        return turned.T, jnp.square(size)
    along, triangle = jnp.linalg.qr(rows.T)
    turned, size, _ = jnp.linalg.svd(triangle, full_matrices=False)
    return along @ turned, jnp.square(size)


def known(layer: Layer, basis: Float[Array, "D q"], energy: Float[Array, " q"]) -> Layer:
    """The layer with the labels' information along these directions: the largest, if there are more
    than it holds.
    """
    rank = layer.energy.shape[0]
    room = max(rank - energy.shape[0], 0)
    return layer._replace(
        basis=jnp.pad(basis[:, :rank], ((0, 0), (0, room))),
        energy=jnp.pad(energy[:rank], (0, room)),
    )


def exact(layer: Layer) -> None:
    """Refuses to add labels to a covariance that may have left directions out."""
    if layer.mean.shape[0] > RANK:
        raise errors.WrongSize(
            "update",
            f"update='online' is exact up to {RANK:,} features, and there are "
            f"{layer.mean.shape[0]:,}: pass update='fresh'.",
        )


def learned(layer: Layer, more: Float[Array, "k D"]) -> Layer:
    """The layer with the information of more rows, each times the root of its own: exact while the
    directions are not more than it holds.
    """
    old = jnp.sqrt(layer.energy)[:, None] * layer.basis.T
    return known(layer, *frame(jnp.concatenate([old, more])))


@_maths.precise
def root(layer: Layer, noise: Float[Array, "D C"]) -> Float[Array, "D C"]:
    """Unit noise as noise of covariance A."""
    # A^(1/2) is the prior's deviation everywhere, and another along the known directions
    before = jax.lax.rsqrt(layer.precision)
    after = jax.lax.rsqrt(layer.precision + layer.energy)
    return before * noise + layer.basis @ ((after - before)[:, None] * (layer.basis.T @ noise))


@_maths.precise
def spread(layer: Layer, at: Float[Array, "*B D"]) -> Float[Array, "*B"]:
    """Variance `f^T A f` of an output at features as the layer sees them."""
    along = at @ layer.basis
    left = 1.0 / (layer.precision + layer.energy) - 1.0 / layer.precision
    return jnp.sum(at * at, axis=-1) / layer.precision + jnp.sum(left * along * along, axis=-1)


def draw(key: Key, layer: Layer, num: int) -> Float[Array, "K D C"]:
    """Weights drawn from the layer's normal."""
    noise = jax.random.normal(key, (num, *layer.mean.shape), jnp.float32)
    return layer.mean + jax.vmap(lambda one: root(layer, one))(noise)
