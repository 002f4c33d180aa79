"""How much a label can tell about a network's outputs: Fisher information, for any likelihood."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from bayesal import likelihoods
from bayesal.types import Array, FitInfo, Gaussian, HParams, Likelihood, Mixture, Prediction, PyTree

NODES = 3, 20  # of Gauss-Hermite quadrature: what is exact for a normal; for each part of a mixture


def fisher_root(likelihood: Likelihood, outputs: Float[Array, " O"]) -> Float[Array, "q O"]:
    """Rows whose `rows.T @ rows` is the Fisher information of the outputs: the expected square of
    the loss's slope, over labels as predicted.

    Exact for classes and for normals (where it is the generalized Gauss-Newton matrix), by
    quadrature for mixtures.

    >>> root = fisher_root(likelihoods.gaussian(noise_std=0.5), jnp.zeros(1))
    >>> (root.T @ root).round(4)
    Array([[4.]], dtype=float32)
    """
    labels, weights = _labels(likelihood.predict(outputs))
    slopes = jax.vmap(jax.grad(lambda o, y: likelihoods.loss(likelihood, o, y)), (None, 0))(
        outputs, labels
    )
    return jnp.sqrt(weights)[:, None] * slopes


def _labels(prediction: Prediction) -> tuple[Array, Float[Array, " q"]]:
    """Labels and weights, under which a mean is the prediction's own."""
    if not isinstance(prediction, Gaussian | Mixture):
        return jnp.arange(prediction.shape[0]), jnp.exp(prediction)
    nodes, masses = np.polynomial.hermite_e.hermegauss(NODES[isinstance(prediction, Mixture)])
    weights = jnp.asarray(masses / masses.sum(), jnp.float32)[:, None]
    share = jnp.exp(prediction.log_weight) if isinstance(prediction, Mixture) else jnp.ones(())
    labels = (
        prediction.mean + jnp.sqrt(prediction.variance) * jnp.asarray(nodes, jnp.float32)[:, None]
    )
    return labels.ravel(), (weights * share).ravel()


def has_mean(likelihood: Likelihood) -> bool:
    """Whether predictions are normals, which a mean and a variance say everything about."""
    return likelihood.real and isinstance(
        jax.eval_shape(
            likelihood.predict, jax.ShapeDtypeStruct((likelihood.outputs,), jnp.float32)
        ),
        Gaussian,
    )


def mean_and_slope(
    likelihood: Likelihood, outputs: Float[Array, " O"]
) -> tuple[Gaussian, Float[Array, " O"]]:
    """The predicted normal, and how its mean changes with the outputs."""
    return likelihood.predict(outputs), jax.grad(lambda o: likelihood.predict(o).mean)(outputs)


def last_good(new: PyTree, old: PyTree, info: FitInfo, hparams: HParams) -> tuple[PyTree, FitInfo]:
    """The new state, if all of it is finite; else the old one, and a failure after the last step
    unless there was one before.
    """
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(new)]).all()
    failed = jnp.where(
        (info.failed_at < 0) & ~finite, jnp.asarray(hparams.steps, jnp.int32), info.failed_at
    )
    return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old), info._replace(
        failed_at=failed
    )
