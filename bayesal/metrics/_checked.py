"""Checks of the metrics' arguments, and the weighted mean that all metrics take."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from bayesal import _checks, _maths, errors
from bayesal.types import Array, Mixture


def classes(log_probs: Any, labels: Any, weights: Any = None) -> tuple[Array, Array, Array]:
    """Log-probabilities `[N, C]`, labels `[N]` and weights `[N]` of at least one point."""
    log_probs = _checks.log_probs(log_probs, draws=False, ndim=2)
    labels = _checks.class_labels(labels, log_probs.shape[1], log_probs.shape[0])
    some(labels, "labels")
    return log_probs, labels, _checks.weights(weights, log_probs.shape[0])


def real(
    prediction: Any, labels: Any, weights: Any = None, axes: tuple[int, ...] = (1, 2)
) -> tuple[Any, Array, Array]:
    """A `Gaussian` or `Mixture` `[N]` or `[K, N]`, its real labels `[N]` and weights `[N]`."""
    prediction = _checks.prediction(prediction, axes=axes, real=True)
    count = prediction.mean.shape[-1 - isinstance(prediction, Mixture)]
    if _checks.concrete(labels):
        labels = jnp.asarray(_checks.real_labels(labels, count))
        some(labels, "labels")
    else:
        labels = _checks.numbers(labels, "labels", "[N]", shape=(count,))
    return prediction, labels, _checks.weights(weights, count)


def bins_of(confidence: Float[np.ndarray, " N"], bins: int) -> Int[np.ndarray, " N"]:
    """Index of each confidence's bin among (0, 1/b], (1/b, 2/b], ...; 0 is in the first.

    >>> bins_of(np.array([0.0, 0.5, 0.51, 1.0]), 2).tolist()
    [0, 0, 1, 1]
    """
    bins = _checks.at_least(1, bins, "bins", most=1_000_000)
    return np.clip(np.ceil(confidence * bins - 1e-5).astype(int) - 1, 0, bins - 1)


def some(values: Any, name: str) -> None:
    """Refuse a mean over nothing."""
    if len(values) == 0:
        raise errors.WrongSize(
            name,
            f"`{name}` is empty: the mean of no points is undefined. Pass at least one point.",
        )


@jax.jit  # once for each shape: outside jit a long sum is compiled again in every call
def mean(values: Float[Array, " N"], weights: Float[Array, " N"]) -> Float[Array, ""]:
    """`sum w v / sum w`; points of weight 0 are left out, whatever their value."""
    return _maths.tree_sum(jnp.where(weights > 0, values * weights, 0.0), axis=0) / _maths.tree_sum(
        weights, axis=0
    )
