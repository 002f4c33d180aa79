"""Curvature of a loss in the weights of one linear layer.

A layer is `outputs [C] = features [D] @ weights [D, C]`, its prior independent normals of mean 0
and precision `delta`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _checks, _maths, _training, likelihoods
from bayesal.posteriors._laplace._fisher import fisher_root
from bayesal.types import Array, Labeled, Likelihood, PyTree


class Curvature(NamedTuple):
    """Curvature of the labels' loss: features, Fisher information per row, Kronecker approximation.

    The product is `sum_i s_i f_i f_i^T (x) F`, for the mean information F of a row and each row's
    share of it, `s_i = <F_i, F> / <F, F>`. Of all products with F it is the nearest to `sum_i f_i
    f_i^T (x) F_i`; the same where all F_i are multiples of one matrix, as with one output or two
    classes. `power` and `right` are F's eigenvalues and eigenvectors; `energy` is the diagonal of
    the other part in the frame `left`, the eigenvectors of the features by weight alone.
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


class Task(NamedTuple):
    """Labels of a linear layer, with weights; rows of weight 0 are absent.

    `fixed` are outputs beside the layer's.
    """

    likelihood: Likelihood
    features: Float[Array, "M D"]
    y: PyTree
    weight: Float[Array, " M"]
    fixed: Float[Array, " R"]

    def nll(self, weights: Float[Array, "D C"]) -> Float[Array, ""]:
        """Negative log-likelihood of all labels, in nats."""
        one = lambda f, y: likelihoods.loss(
            self.likelihood, jnp.concatenate([f @ weights, self.fixed]), y
        )
        losses = jax.vmap(one)(self.features, self.y)
        return jnp.sum(jnp.where(self.weight > 0, self.weight * losses, 0.0))

    def fisher(self, weights: Float[Array, "D C"]) -> Float[Array, "M C C"]:
        """Each row's Fisher information about the layer's outputs, times its weight."""

        def one(f):
            root = fisher_root(self.likelihood, jnp.concatenate([f @ weights, self.fixed]))[
                :, : weights.shape[1]
            ]
            return root.T @ root

        weight = self.weight[:, None, None]
        return jnp.where(weight > 0, weight * jax.vmap(one)(self.features), 0.0)


def task_of(
    likelihood: Likelihood,
    features: Float[Array, "M D"],
    labeled: Labeled,
    fixed: Float[Array, " R"],
) -> Task:
    """The rows that count; the others may hold anything, so their features and labels become 0."""
    weight = _training.row_weights(labeled)
    there = lambda leaf: jnp.where((weight > 0).reshape(-1, *(1,) * (leaf.ndim - 1)), leaf, 0)
    y = jax.tree.map(_checks.as_float, labeled.y) if likelihood.real else labeled.y
    return Task(likelihood, there(features), jax.tree.map(there, y), weight, fixed)


def nothing(weights: Float[Array, "D C"]) -> Curvature:
    """The curvature before any label."""
    rows, columns = weights.shape
    zeros = lambda *shape: jnp.zeros(shape, jnp.float32)
    eye = lambda size: jnp.eye(size, dtype=jnp.float32)
    return Curvature(
        features=zeros(1, rows),
        fisher=zeros(1, columns, columns),
        shares=zeros(1),
        left=eye(rows),
        energy=zeros(rows),
        right=eye(columns),
        power=zeros(columns),
    )


def frame(
    features: Float[Array, "M D"], share: Float[Array, " M"]
) -> tuple[Float[Array, "D D"], Float[Array, " D"]]:
    """Eigenvectors and eigenvalues of `sum_i share_i f_i f_i^T`, from the features themselves: the
    small ones keep their digits.
    """
    features = jnp.sqrt(share)[:, None] * features
    # the singular values are square roots of what is wanted: forming features.T @ features would
    # square the condition number, and float32 has no digits to spare
    triangle = jnp.linalg.qr(features, mode="r")
    # fewer rows than features: the missing directions have no energy
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
    per = jnp.where(size > 0, size, 1.0)  # squares of small numbers vanish in float32
    # the projection <F_i, F> / <F, F>: F_i less its share of F is orthogonal to F, which makes the
    # sum of the products the nearest one in Frobenius norm
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
    # the outputs' factor of the product is the mean information of a label; its scale does not
    # matter, for the shares are relative to it
    mean = fisher.sum(0) / _training.total_weight(task.weight)
    power, right = jnp.linalg.eigh(mean)
    parts = shares(fisher, mean)
    return Curvature(
        features=task.features,
        fisher=fisher,
        shares=parts,
        left=left,
        energy=parts @ jnp.square(seen),
        right=right,
        power=jnp.maximum(power, 0.0),  # rounding may make an eigenvalue negative
    )
