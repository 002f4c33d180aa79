"""Checks of held-out predictions and their labels."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import _checks, errors
from bayesal.types import Array, Gaussian, Mixture


def classes(
    log_probs: Any, labels: Any, weights: Any, name: str = "log_probs"
) -> tuple[Array, Array, Array]:
    """Log-probabilities `[K, N, C]`, labels `[N]` and weights `[N]` of at least one label."""
    log_probs = _checks.log_probs(log_probs, name, ndim=3)
    count = _some(log_probs.shape[1])
    labels = _checks.class_labels(labels, log_probs.shape[2], count)
    return log_probs, labels, _checks.weights(weights, count)


def numbers(prediction: Any, labels: Any, weights: Any) -> tuple[Any, Array, Array]:
    """A `Gaussian` or `Mixture` `[K, N]`, real labels `[N]` and weights `[N]` of at least one."""
    prediction = _checks.prediction(prediction, axes=(2,), real=True)
    count = _some(prediction.mean.shape[1])
    if _checks.concrete(labels):
        labels = _checks.real_labels(labels, count)
    return prediction, jnp.asarray(labels), _checks.weights(weights, count)


def padded(prediction: Any, labels: Any, weights: Any, real: bool) -> tuple[Any, Array, Array]:
    """The same checks where rows of weight 0 are padding, which may hold anything.

    Padding becomes harmless rows instead of being left out: shapes stay, and so does the compiled
    program. All weights may be 0.
    """
    labels, weights = (
        np.asarray(_checks.plain(a, name)) for a, name in ((labels, "labels"), (weights, "weights"))
    )
    if labels.ndim != 1 or weights.shape != labels.shape:
        raise errors.WrongShape(
            "weights",
            "`weights` must be one number or truth value per label; got shape "
            f"{weights.shape} for `labels` of shape {labels.shape}.",
        )
    absent = weights == 0
    labels = np.where(absent, labels.dtype.type(0), labels)
    checked_weights = None if absent.all() else weights
    if real:
        if isinstance(prediction, Gaussian | Mixture):
            fills = {"mean": 0.0, "variance": 1.0, "log_weight": _uniform(prediction.mean)}
            prediction = type(prediction)(
                *(
                    _filled(leaf, absent, fills[field])
                    for field, leaf in zip(prediction._fields, prediction, strict=True)
                )
            )
        prediction, labels, _ = numbers(prediction, labels, checked_weights)
    else:
        prediction = _filled(prediction, absent, _uniform(prediction))
        prediction, labels, _ = classes(prediction, labels, checked_weights, "prediction")
    return prediction, labels, jnp.asarray(weights)


def _some(count: int) -> int:
    if count == 0:
        raise errors.WrongSize(
            "labels", "`labels` is empty: a temperature needs at least one held-out label."
        )
    return count


def _uniform(values: Any) -> float:
    return -float(np.log(max(1, (np.shape(values) or (1,))[-1])))


def _filled(values: Any, absent: np.ndarray, fill: float) -> Any:
    """Rows (axis 1) that are absent hold `fill`; what has no such rows is left to its check."""
    values = _checks.plain(values, "prediction")
    if np.shape(values)[1:2] != absent.shape or not hasattr(values, "dtype"):
        return values
    if not jnp.issubdtype(values.dtype, jnp.floating):
        return values
    rows = jnp.asarray(absent.reshape(1, -1, *(1 for _ in range(values.ndim - 2))))
    with jax.numpy_rank_promotion("allow"):
        return jnp.where(rows, jnp.asarray(fill, values.dtype), jnp.asarray(values))
