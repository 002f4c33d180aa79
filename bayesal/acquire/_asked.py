"""What strategies ask of a predictive, or an error that says why it cannot be had."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Float

from bayesal import _checks, errors, likelihoods
from bayesal.types import Array, Gaussian, Mixture, Prediction, Score


def log_probs(predictive: Any, x: Any) -> Float[Array, "K n C"]:
    """Log-probabilities of classes."""
    said = predictive(x)
    if isinstance(said, Gaussian | Mixture):
        raise errors.WrongType(
            "strategy",
            "this strategy compares probabilities of classes, and the predictive predicts real "
            "labels. Pass acquire.log_det_gaussian(), acquire.batch_epig(), acquire.epig(), or "
            "acquire.top(score) with a score of `bayesal.scores.regression`. Where a region "
            "matters: acquire.epig(targets=x_region).",
        )
    return _checks.log_probs(said, ndim=3)


def moments(predictive: Any, x: Any) -> Gaussian:
    """Means and variances of real labels, `[K, n]`."""
    said = predictive(x)
    if not isinstance(said, Gaussian | Mixture):
        raise errors.WrongType(
            "strategy",
            "this strategy is for real labels, and the predictive predicts classes. Pass "
            "acquire.batch_bald().",
        )
    return likelihoods.moments(said)


def scored(score: Score, said: Prediction, name: str = "score") -> Float[Array, " n"]:
    """A score of every row."""
    values = likelihoods.scored(score, said)
    rows = (said.mean if isinstance(said, Gaussian | Mixture) else said).shape[1]
    dtype = getattr(values, "dtype", None)
    real = dtype is not None and (
        jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    )
    if not real or values.shape != (rows,):
        got = type(values).__name__ if dtype is None else f"shape {values.shape}, dtype {dtype}"
        raise errors.WrongShape(
            name,
            f"`{name}` must give one real number per row, an array of shape ({rows},) for "
            f"predictions of {rows} rows; {getattr(score, '__name__', score)!r} gave {got}.",
        )
    return values
