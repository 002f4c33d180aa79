"""What can be done with any kind of prediction: log-probabilities of classes, a normal, a mixture
of normals.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from bayesal import checks, maths
from bayesal.types import Gaussian, Mixture, Prediction, Scaling

SAME = 1e-3  # how far two predictions of one draw at one point may lie `apart`


def temper(prediction: Prediction, temperature: Float[Array, ""] | Scaling) -> Prediction:
    """Each draw's own prediction to the power 1/T, normalized again: log-probabilities over T,
    variances times T.

    The components of a mixture are tempered one by one, and keep their weights. A `Scaling` has a T
    and a bias for every class.

    >>> temper(Gaussian(jnp.array(1.0), jnp.array(2.0)), jnp.float32(3.0)).variance
    Array(6., dtype=float32)
    """
    prediction = jax.tree.map(checks.as_float, prediction)  # a net may answer in half precision
    if isinstance(prediction, Gaussian | Mixture):
        return prediction._replace(variance=prediction.variance * temperature)
    if isinstance(temperature, Scaling):
        over, plus = (jnp.expand_dims(a, range(prediction.ndim - 1)) for a in temperature)
        return jax.nn.log_softmax(prediction / over + plus, axis=-1)
    return jax.nn.log_softmax(prediction / temperature, axis=-1)


def moments(prediction: Gaussian | Mixture) -> Gaussian:
    """Mean and variance; those of a mixture are `sum_j w_j m_j` and `sum_j w_j (v_j + (m_j -
    mean)^2)`.

    >>> round(
    ...     float(
    ...         moments(
    ...             Mixture(
    ...                 jnp.log(jnp.array([0.5, 0.5])),
    ...                 jnp.array([-1.0, 1.0]),
    ...                 jnp.array([0.1, 0.3]),
    ...             )
    ...         ).variance
    ...     ),
    ...     4,
    ... )
    1.2
    """
    if isinstance(prediction, Gaussian):
        return prediction
    weight = jnp.exp(prediction.log_weight)
    mean = jnp.sum(weight * prediction.mean, axis=-1)
    noise, spread = decompose(prediction)
    return Gaussian(mean, noise + spread)


def decompose(mixture: Mixture) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    """Aleatoric `sum_j w_j v_j` and epistemic `sum_j w_j (m_j - mean)^2` variance of a
    mixture-density net's prediction.

    References:
      Choi et al. 2018, https://arxiv.org/abs/1709.02249

    >>> decompose(
    ...     Mixture(jnp.log(jnp.array([0.5, 0.5])), jnp.array([-1.0, 1.0]), jnp.array([0.1, 0.3]))
    ... )[1].round(4)
    Array(1., dtype=float32)
    """
    weight = jnp.exp(mixture.log_weight)
    mean = jnp.sum(weight * mixture.mean, axis=-1, keepdims=True)
    return jnp.sum(weight * mixture.variance, axis=-1), jnp.sum(
        weight * jnp.square(mixture.mean - mean), axis=-1
    )


def average(prediction: Prediction) -> Array | Gaussian:
    """Over draws (axis 0): `log mean_k p_k` of classes; mean and variance of the mixture of normals
    (law of total variance).

    >>> average(Gaussian(jnp.array([-1.0, 1.0]), jnp.array([0.1, 0.3])))
    Gaussian(mean=Array(0., dtype=float32), variance=Array(1.2, dtype=float32))
    """
    if not isinstance(prediction, Gaussian | Mixture):
        return maths.log_mean_exp(prediction)
    each = moments(prediction)
    over_draws = lambda a: maths.tree_sum(a, axis=0) / a.shape[0]
    mean = over_draws(each.mean)
    return Gaussian(
        mean, over_draws(each.variance) + over_draws(jnp.square(each.mean - mean[None]))
    )


def log_likelihood(prediction: Prediction, y: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """Log-probability of labels under each draw, in nats: predictions `[..., n]`, labels `[n]`,
    broadcast over leading axes.

    >>> log_likelihood(jnp.log(jnp.array([[0.9, 0.1], [0.4, 0.6]])), jnp.array([0, 1])).round(4)
    Array([-0.1054, -0.5108], dtype=float32)
    """
    if isinstance(prediction, Gaussian):
        return _normal(prediction.mean, prediction.variance, y)
    if isinstance(prediction, Mixture):
        log_density = _normal(prediction.mean, prediction.variance, y[..., None])
        return jax.nn.logsumexp(
            jnp.broadcast_to(prediction.log_weight, log_density.shape) + log_density, axis=-1
        )
    labels = jnp.broadcast_to(y, prediction.shape[:-1])
    return jnp.take_along_axis(prediction, labels[..., None], axis=-1)[..., 0]


def _normal(mean, variance, y):
    mean, variance, y = jnp.broadcast_arrays(mean, variance, y)
    return -0.5 * (jnp.square(y - mean) / variance + jnp.log(variance) + math.log(2 * math.pi))


def scored(score: Callable, prediction: Prediction) -> Array:
    """A score of a prediction: of log-probabilities, or of means and variances as
    `gaussian.bald(means, variances)` takes them.

    >>> from bayesal import gaussian
    >>> scored(gaussian.epistemic, Gaussian(jnp.array([[-1.0], [1.0]]), jnp.ones((2, 1))))
    Array([1.], dtype=float32)
    """
    real = isinstance(prediction, Gaussian | Mixture)
    given = moments(prediction) if real else (prediction,)
    try:
        inspect.signature(score).bind(*given)
    except TypeError as error:
        takes = (
            "real numbers, so its score takes (means, variances), as those of `bayesal.gaussian` do"
            if real
            else (
                "classes, so its score takes log-probabilities alone, as those of "
                "`bayesal.scores` do"
            )
        )
        raise checks.WrongType(
            "score",
            f"this posterior predicts {takes}; {getattr(score, '__name__', score)!r} does not.",
        ) from error
    return score(*given)


def in_other_company(rows: int) -> np.ndarray:
    """Rows to predict again: half of them, each twice, in reverse. Masks made per row and
    statistics of a batch show.

    >>> in_other_company(5).tolist()
    [2, 1, 1, 0, 0]
    """
    return np.arange(rows)[::-1] // 2


def apart(first: Any, second: Any) -> float:
    """How far two predictions of the same draws and points lie apart at most: in probability, or in
    standard deviations.

    >>> round(apart(jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.4, 0.6]))), 3)
    0.1
    """
    if jax.tree.map(np.shape, first) != jax.tree.map(np.shape, second):
        return math.inf
    if not isinstance(first, Gaussian | Mixture):
        return float(
            np.max(np.abs(np.exp(np.asarray(first)) - np.exp(np.asarray(second))), initial=0.0)
        )
    (mean, variance), (other, others) = (
        map(np.asarray, moments(prediction)) for prediction in (first, second)
    )
    return float(
        np.max(
            np.maximum(np.abs(mean - other) / np.sqrt(variance), np.abs(others / variance - 1.0)),
            initial=0.0,
        )
    )
