"""What every metric checks, and the one weighted mean that all of them take."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bayesal import _checks, _maths, errors, likelihoods
from bayesal.types import Gaussian, Mixture


def classes(log_probs: Any, labels: Any, weights: Any = None) -> tuple[Array, Array, Array]:
    """Log-probabilities `[N, C]`, labels `[N]` and weights `[N]` of at least one point, or an error
    that names what they are not.
    """
    log_probs = _checks.log_probs(log_probs, draws=False, ndim=2)
    labels = _checks.class_labels(labels, log_probs.shape[1], log_probs.shape[0])
    some(labels, "labels")
    return log_probs, labels, _checks.weights(weights, log_probs.shape[0])


def real(prediction: Any, y: Any, weights: Any = None) -> tuple[Array, Array]:
    """Real labels `[N]` that fit a prediction, and weights `[N]`."""
    if not isinstance(prediction, Gaussian | Mixture):
        raise errors.WrongType(
            "prediction",
            "`prediction` must be a Gaussian or a Mixture, as `predictive.mean(x)` gives "
            f"for real labels; got {type(prediction).__name__}.",
        )
    if _checks.concrete(y):
        y = _checks.real_labels(y, likelihoods.moments(prediction).mean.shape[-1], "y")
        some(y, "y")
    y = jnp.asarray(y)
    return y, _checks.weights(weights, y.shape[0])


def some(values: Any, name: str) -> None:
    """Refuse a mean over nothing."""
    if len(values) == 0:
        raise errors.WrongSize(
            name,
            f"`{name}` is empty: a mean over no points is not a number. Pass at least one point.",
        )


@jax.jit  # once for each shape: outside jit a long sum is compiled again in every call
def mean(values: Float[Array, " N"], weights: Float[Array, " N"]) -> Float[Array, ""]:
    """`sum w v / sum w`; a point without weight adds nothing, whatever its value."""
    return _maths.tree_sum(jnp.where(weights > 0, values * weights, 0.0), axis=0) / _maths.tree_sum(
        weights, axis=0
    )
